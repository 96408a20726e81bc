//! What `tazpod status` says of the development container: nothing where none is configured or known, and quickly.

use serde_json::{Value, json};

use crate::config::Plan;
use crate::container::endpoint::Surroundings;
use crate::container::{self, ContainerError, ContainerSpec, Engine, Found, Host, Patience, Place};
use crate::ui;

use super::beside::Beside;
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

/// What is asked of the engine, while the rest is looked at.
pub struct Look {
    notes: Vec<ContainerNote>,
    answer: Beside<Vec<ContainerStatus>>,
}

impl Look {
    /// Begins to ask.
    pub fn begin(plan: &Plan) -> Self {
        let notes = host().map_or_else(|_| Vec::new(), |host| notes(plan, &host));
        let (asked, spec) = (notes.clone(), spec(plan));
        Self { notes, answer: Beside::begin(move || look(asked, spec.as_ref())) }
    }

    /// What it says; an engine that takes its time is not waited for.
    pub fn finish(self) -> Vec<ContainerStatus> {
        let silent = |note: ContainerNote| {
            let place =
                Surroundings::here().find().map_or_else(|_| String::new(), |(endpoint, _)| endpoint.to_string());
            ContainerStatus { name: note.name, found: Err(ContainerError::Silent(place)), changed: None }
        };
        self.answer.wait().unwrap_or_else(|| self.notes.into_iter().map(silent).collect())
    }
}

/// What would be made of the configuration, as far as it is trusted.
fn spec(plan: &Plan) -> Option<ContainerSpec> {
    let host = host().ok()?;
    ContainerSpec::new(plan.container().ok()?, &host, &home_plan(plan, &host).ok()?).ok()
}

fn look(notes: Vec<ContainerNote>, spec: Option<&ContainerSpec>) -> Vec<ContainerStatus> {
    if notes.is_empty() {
        return Vec::new();
    }
    let engine = Engine::connect(Patience::Short);
    let status = |note: ContainerNote| {
        let found = match &engine {
            Ok(engine) => container::find(engine, &note.name, &note.project),
            Err(error) => Err(ContainerError::Endpoint(error.to_string())),
        };
        let changed = match (&found, spec.filter(|spec| spec.name == note.name)) {
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
