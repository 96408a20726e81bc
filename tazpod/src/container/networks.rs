//! A network of its own for a container, where packets must be smaller than the engine's usual ones.

use std::collections::HashMap;

use bollard::models::NetworkCreateRequest;
use bollard::query_parameters::InspectNetworkOptions;

use super::engine::Engine;
use super::error::{ContainerError, is_missing};
use super::request::PROJECT_LABEL;
use super::spec::ContainerSpec;

const MTU: &str = "com.docker.network.driver.mtu";

/// Makes the network, unless it is there.
pub(super) fn make(engine: &Engine, spec: &ContainerSpec) -> Result<(), ContainerError> {
    let Some(mtu) = spec.mtu else { return Ok(()) };
    let project = spec.project.display().to_string();
    match find(engine, &spec.network)? {
        Some(known) if known.project.as_ref() == Some(&project) => {
            if known.mtu == Some(mtu.to_string()) {
                return Ok(());
            }
            remove(engine, &spec.network, &project)?;
        }
        Some(known) => {
            let owner = known.project.unwrap_or_else(|| "it was made without this tool".to_owned());
            return Err(ContainerError::NameTaken { name: spec.network.clone(), owner });
        }
        None => {}
    }
    let request = NetworkCreateRequest {
        name: spec.network.clone(),
        driver: Some("bridge".to_owned()),
        options: Some(HashMap::from([(MTU.to_owned(), mtu.to_string())])),
        labels: Some(HashMap::from([(PROJECT_LABEL.to_owned(), project)])),
        ..NetworkCreateRequest::default()
    };
    engine.wait("make the network", engine.docker.create_network(request)).map(drop)
}

/// Removes a network that was made for a project; leaves any other alone.
pub(super) fn remove(engine: &Engine, network: &str, project: &str) -> Result<(), ContainerError> {
    match find(engine, network)? {
        Some(known) if known.project.as_deref() == Some(project) => {
            engine.wait("remove the network", engine.docker.remove_network(network))
        }
        _ => Ok(()),
    }
}

/// What is known of a network.
struct Known {
    /// The project that it was made for.
    project: Option<String>,
    /// Its size of packets.
    mtu: Option<String>,
}

fn find(engine: &Engine, network: &str) -> Result<Option<Known>, ContainerError> {
    match engine.ask(engine.docker.inspect_network(network, None::<InspectNetworkOptions>)) {
        Ok(found) => Ok(Some(Known {
            project: found.labels.and_then(|mut labels| labels.remove(PROJECT_LABEL)),
            mtu: found.options.and_then(|mut options| options.remove(MTU)),
        })),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(ContainerError::of("look at the network", error)),
    }
}
