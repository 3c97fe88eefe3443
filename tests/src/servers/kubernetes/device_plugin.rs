//! A device plugin that gives out GPUs that are not there, as NVIDIA's gives out real ones: UUIDs as ids, or shares of them (`UUID::0`),
//! and the UUIDs in the container's environment. When the kubelet has restarted it registers anew.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_stream::wrappers::{UnixListenerStream, WatchStream};
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status};

use super::LiveNode;
use messages::device_plugin_server::{DevicePlugin as Api, DevicePluginServer};
use messages::registration_client::RegistrationClient;
use messages::{
    AllocateRequest, AllocateResponse, ContainerAllocateResponse, ContainerPreferredAllocationResponse,
    Device, DevicePluginOptions, Empty, ListAndWatchResponse, PreStartContainerRequest,
    PreStartContainerResponse, PreferredAllocationRequest, PreferredAllocationResponse, RegisterRequest,
};

mod messages {
    #![allow(clippy::allow_attributes_without_reason, reason = "generated code")]
    #![allow(missing_docs, unreachable_pub, clippy::too_many_lines, reason = "generated code")]

    tonic::include_proto!("v1beta1");
}

/// The version of the API that the messages are of.
const VERSION: &str = "v1beta1";
/// The kubelet's socket, in the folder of the plugins'.
const KUBELET: &str = "kubelet.sock";
/// What the NVIDIA container toolkit reads.
const VISIBLE: &str = "NVIDIA_VISIBLE_DEVICES";
/// Between a device and its share.
const SHARE: &str = "::";
/// How often the folder is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// A plugin at work. Once it is dropped, the kubelet gives out none of its devices any more.
#[derive(Debug)]
pub struct DevicePlugin {
    /// Devices, and whether they are healthy.
    devices: watch::Sender<BTreeMap<String, bool>>,
    socket: PathBuf,
    serving: JoinHandle<()>,
}

impl DevicePlugin {
    /// Gives out the devices of these ids as this resource, such as `nvidia.com/gpu`.
    #[must_use]
    pub fn start(node: &LiveNode, resource: &str, ids: &[String]) -> Self {
        let endpoint = format!("{}.sock", resource.replace('/', "-"));
        let socket = node.device_plugins().join(&endpoint);
        let devices = watch::Sender::new(ids.iter().map(|id| (id.clone(), true)).collect());
        let request = RegisterRequest {
            version: VERSION.into(),
            endpoint,
            resource_name: resource.into(),
            options: Some(OPTIONS),
        };
        let plugin = Plugin { devices: devices.subscribe() };
        let serving = tokio::spawn(serve(node.device_plugins().to_owned(), socket.clone(), request, plugin));
        Self { devices, socket, serving }
    }

    /// Tells the kubelet that a device is unhealthy: it is given to nobody any more, and stays with whoever has it.
    ///
    /// # Panics
    /// When there is no such device.
    pub fn fail(&self, id: &str) {
        self.devices.send_modify(|devices| {
            *devices.get_mut(id).expect("the plugin has the device") = false;
        });
    }
}

impl Drop for DevicePlugin {
    fn drop(&mut self) {
        self.serving.abort();
        fs::remove_file(&self.socket).ok();
    }
}

const OPTIONS: DevicePluginOptions =
    DevicePluginOptions { pre_start_required: false, get_preferred_allocation_available: true };

/// Serves and registers, and does both again whenever the socket is gone: a kubelet that starts empties the folder.
async fn serve(folder: PathBuf, socket: PathBuf, request: RegisterRequest, plugin: Plugin) {
    loop {
        // One that a killed test has left.
        fs::remove_file(&socket).ok();
        let listener = looked(|| UnixListener::bind(&socket).ok()).await;
        let serving = Server::builder()
            .add_service(DevicePluginServer::new(plugin.clone()))
            .serve_with_incoming(UnixListenerStream::new(listener));
        let registering = async {
            while register(&folder.join(KUBELET), request.clone()).await.is_err() {
                sleep(LOOK).await;
            }
            looked(|| (!socket.exists()).then_some(())).await;
        };
        tokio::select! {
            served = serving => served.expect("a socket that is open can be served"),
            () = registering => {}
        }
    }
}

/// Looks until there is something, for as long as the plugin lives.
async fn looked<T>(look: impl Fn() -> Option<T>) -> T {
    loop {
        match look() {
            Some(found) => return found,
            None => sleep(LOOK).await,
        }
    }
}

async fn register(kubelet: &Path, request: RegisterRequest) -> Result<(), Box<dyn Error + Send + Sync>> {
    let channel = Endpoint::from_shared(format!("unix://{}", kubelet.display()))?.connect().await?;
    RegistrationClient::new(channel).register(request).await?;
    Ok(())
}

/// What the kubelet asks.
#[derive(Debug, Clone)]
struct Plugin {
    devices: watch::Receiver<BTreeMap<String, bool>>,
}

#[tonic::async_trait]
impl Api for Plugin {
    type ListAndWatchStream = Pin<Box<dyn Stream<Item = Result<ListAndWatchResponse, Status>> + Send>>;

    async fn get_device_plugin_options(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<DevicePluginOptions>, Status> {
        Ok(Response::new(OPTIONS))
    }

    async fn list_and_watch(&self, _: Request<Empty>) -> Result<Response<Self::ListAndWatchStream>, Status> {
        let lists = WatchStream::new(self.devices.clone()).map(|devices| Ok(list(&devices)));
        Ok(Response::new(Box::pin(lists)))
    }

    async fn get_preferred_allocation(
        &self,
        request: Request<PreferredAllocationRequest>,
    ) -> Result<Response<PreferredAllocationResponse>, Status> {
        let responses = request.into_inner().container_requests.into_iter().map(|asked| {
            let size = usize::try_from(asked.allocation_size).unwrap_or_default();
            let free: BTreeSet<_> = asked.available_device_ids.into_iter().collect();
            let mut ids = asked.must_include_device_ids;
            ids.extend(free.into_iter().filter(|id| !ids.contains(id)).collect::<Vec<_>>());
            ids.truncate(size);
            ContainerPreferredAllocationResponse { device_ids: ids }
        });
        Ok(Response::new(PreferredAllocationResponse { container_responses: responses.collect() }))
    }

    async fn allocate(
        &self,
        request: Request<AllocateRequest>,
    ) -> Result<Response<AllocateResponse>, Status> {
        let responses =
            request.into_inner().container_requests.into_iter().map(|asked| visible(&asked.device_ids));
        Ok(Response::new(AllocateResponse { container_responses: responses.collect() }))
    }

    async fn pre_start_container(
        &self,
        _: Request<PreStartContainerRequest>,
    ) -> Result<Response<PreStartContainerResponse>, Status> {
        Ok(Response::new(PreStartContainerResponse {}))
    }
}

fn list(devices: &BTreeMap<String, bool>) -> ListAndWatchResponse {
    let device = |(id, healthy): (&String, &bool)| Device {
        id: id.clone(),
        health: if *healthy { "Healthy" } else { "Unhealthy" }.into(),
    };
    ListAndWatchResponse { devices: devices.iter().map(device).collect() }
}

/// The environment of a container that gets these devices: each UUID once, however many shares of it.
fn visible(ids: &[String]) -> ContainerAllocateResponse {
    let uuids: BTreeSet<_> = ids.iter().filter_map(|id| id.split(SHARE).next()).collect();
    let uuids: Vec<_> = uuids.into_iter().collect();
    ContainerAllocateResponse { envs: [(VISIBLE.to_owned(), uuids.join(","))].into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_told_each_of_its_gpus_once() {
        let ids = ["GPU-b::1", "GPU-a", "GPU-b::0"].map(str::to_owned);
        assert_eq!(visible(&ids).envs[VISIBLE], "GPU-a,GPU-b");
    }
}
