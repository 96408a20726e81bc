//! What `tazpod status` says of the development container: nothing where none is configured or known, and quickly.

use serde_json::{Value, json};

use crate::config::Plan;
use crate::container::{self, ContainerError, ContainerSpec, Engine, Found, Host, Patience, Place};
use crate::ui;

use super::development::{home_plan, host};
use super::views::{self, ContainerNote};

/// How a container stands.
pub struct ContainerStatus {
    name: String,
    found: Result<Option<Found>, ContainerError>,
    changed: Option<bool>,
}

/// The containers of a plan: the configured one, as far as it is trusted, and what was made before under other names.
pub fn notes(plan: &Plan, host: &Host) -> Vec<ContainerNote> {
    let mut notes = views::known(&plan.archive);
    if let Ok(container) = plan.container() {
        let place = Place::of(&host.data_home, &container.name).folder().to_owned();
        let (name, project) = (container.name.clone(), container.project.clone());
        if !notes.iter().any(|note| (&note.name, &note.project) == (&name, &project)) {
            let is_inside = container.inside.is_some();
            let views = if is_inside { Vec::new() } else { views::of_container() };
            notes.insert(0, ContainerNote { name, project, place, views, is_inside });
        }
    }
    notes
}

/// Asks the engine, which may take a second and not more.
pub fn look(plan: &Plan) -> Vec<ContainerStatus> {
    let Ok(host) = host() else { return Vec::new() };
    let notes = notes(plan, &host);
    if notes.is_empty() {
        return Vec::new();
    }
    let spec = plan.container().ok().zip(home_plan(plan, &host).ok());
    let spec = spec.and_then(|(container, home)| ContainerSpec::new(container, &host, &home).ok());
    let engine = Engine::connect(Patience::Short);
    let found = |note: &ContainerNote| match &engine {
        Ok(engine) => container::find(engine, &note.name, &note.project),
        Err(error) => Err(ContainerError::Endpoint(error.to_string())),
    };
    let status = |note: ContainerNote| {
        let found = found(&note);
        let spec = spec.as_ref().filter(|spec| spec.name == note.name);
        let changed = match (&found, spec) {
            (Ok(Some(found)), Some(spec)) => Some(found.is_changed(spec)),
            _ => None,
        };
        ContainerStatus { name: note.name, found, changed }
    };
    notes.into_iter().map(status).collect()
}

impl ContainerStatus {
    /// A line for people.
    pub fn to_text(&self) -> String {
        let rest = match &self.found {
            Ok(Some(found)) => {
                let since = found.started.as_deref().map_or_else(String::new, |time| format!(" since {}", short(time)));
                let changed =
                    if self.changed == Some(true) { "; the configuration changed: 'tazpod up --recreate'" } else { "" };
                format!("{}{since}, image {}{changed}", found.state.word(), ui::printable(&found.image))
            }
            Ok(None) => "not made yet".to_owned(),
            Err(error) => format!("unknown: {error}"),
        };
        format!("container {}: {rest}", self.name)
    }

    /// For programs.
    pub fn to_json(&self) -> Value {
        match &self.found {
            Ok(Some(found)) => json!({
                "name": self.name, "state": found.state.word(), "image": found.image, "since": found.started,
                "changed": self.changed,
            }),
            Ok(None) => json!({"name": self.name, "state": "none"}),
            Err(error) => json!({"name": self.name, "state": "unknown", "error": error.to_string()}),
        }
    }
}

/// `2026-11-25T18:00:14.1234Z` without fractions.
fn short(time: &str) -> String {
    let seconds = time.split('.').next().unwrap_or(time).trim_end_matches('Z');
    format!("{}Z", seconds.replace('T', " "))
}
