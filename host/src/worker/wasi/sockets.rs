//! `wasi:sockets` over descriptors that the broker opened: the worker itself can neither make nor connect a socket.
//!
//! This file has the conversation with the broker ([`Line`]), a descriptor that came from it ([`Socket`](super::line::Socket)), and names. TCP and
//! UDP have a file each. Without a grant there is no line, and every call that makes a socket or looks a name up is denied.
//!
//! The traits are the engine crate's. Its handles stand for resources of ours, since its own socket types cannot be made of a
//! descriptor that another process opened. A handle's number is looked up with our type, so a wrong number is a trap.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::p2::bindings::sockets;
use wasmtime_wasi::p2::bindings::sockets::ip_name_lookup::ResolveAddressStream;
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddress};
use wasmtime_wasi::p2::bindings::sync;
use wasmtime_wasi::p2::{Network, SocketError, SocketResult};
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsCtxView};
use wasmtime_wasi_io::async_trait;
use wasmtime_wasi_io::poll::{DynPollable, Pollable, subscribe};

use super::guest::Guest;
use super::line::{Answered, Line, StreamFailure, until};
use crate::wire::broker::ToBroker;

/// Bytes of a name: the longest that the DNS allows.
const NAME_BYTES_MAX: usize = 253;

/// Links `wasi:sockets`.
pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    type Own = wasmtime::component::HasSelf<Guest>;
    let own: fn(&mut Guest) -> &mut Guest = |guest| guest;
    // A network only names a target of requests to the broker, so the crate's own type suffices.
    fn crates(guest: &mut Guest) -> WasiSocketsCtxView<'_> {
        WasiSocketsCtxView { ctx: &mut guest.unused_sockets, table: &mut guest.table }
    }
    sockets::instance_network::add_to_linker::<Guest, WasiSockets>(linker, crates)?;
    sockets::network::add_to_linker::<Guest, Own>(linker, &sockets::network::LinkOptions::default(), own)?;
    sockets::ip_name_lookup::add_to_linker::<Guest, Own>(linker, own)?;
    sockets::tcp_create_socket::add_to_linker::<Guest, Own>(linker, own)?;
    sync::sockets::tcp::add_to_linker::<Guest, Own>(linker, own)?;
    sync::sockets::udp_create_socket::add_to_linker::<Guest, Own>(linker, own)?;
    sync::sockets::udp::add_to_linker::<Guest, Own>(linker, own)?;
    Ok(())
}

impl sockets::network::Host for Guest {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<ErrorCode> {
        error.downcast()
    }

    fn network_error_code(&mut self, error: Resource<wasmtime::Error>) -> wasmtime::Result<Option<ErrorCode>> {
        let error = self.table.get(&error)?;
        Ok(error.downcast_ref::<StreamFailure>().map(|StreamFailure(code)| *code))
    }
}

impl sockets::network::HostNetwork for Guest {
    fn drop(&mut self, network: Resource<Network>) -> wasmtime::Result<()> {
        self.table.delete(network)?;
        Ok(())
    }
}

/// A lookup of a name.
enum Lookup {
    Asked { id: u32, line: Arc<Line> },
    Known(VecDeque<IpAddr>),
}

#[async_trait]
impl Pollable for Lookup {
    async fn ready(&mut self) {
        if let Lookup::Asked { id, line } = self {
            until(|| line.is_answered(*id)).await;
        }
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        if let Lookup::Asked { id, line } = self {
            line.abandon(*id);
        }
    }
}

impl sockets::ip_name_lookup::Host for Guest {
    fn resolve_addresses(
        &mut self,
        network: Resource<Network>,
        name: String,
    ) -> SocketResult<Resource<ResolveAddressStream>> {
        let line = self.sockets.line()?;
        self.table.get(&network)?;
        let literal = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(&name);
        let lookup = match literal.parse::<IpAddr>() {
            // A name written as an address is used as that address, without a lookup.
            Ok(address) => Lookup::Known([address].into()),
            Err(_)
                if name.is_empty()
                    || name.len() > NAME_BYTES_MAX
                    || !name.bytes().all(|byte| byte.is_ascii_graphic()) =>
            {
                return Err(ErrorCode::InvalidArgument.into());
            }
            Err(_) => Lookup::Asked { id: line.ask(|id| ToBroker::Resolve { id, name }), line },
        };
        Ok(theirs(self.table.push(lookup)?))
    }
}

impl sockets::ip_name_lookup::HostResolveAddressStream for Guest {
    fn resolve_next_address(&mut self, stream: Resource<ResolveAddressStream>) -> SocketResult<Option<IpAddress>> {
        let lookup = self.table.get_mut(&ours::<Lookup, _>(&stream))?;
        if let Lookup::Asked { id, line } = lookup {
            *lookup = match line.take(*id) {
                None => return Err(ErrorCode::WouldBlock.into()),
                Some(Answered::Addresses(addresses)) => Lookup::Known(addresses.into()),
                Some(Answered::Refused(code)) => return Err(code.into()),
                Some(Answered::Given { .. }) => return Err(ErrorCode::Unknown.into()),
            };
        }
        match lookup {
            Lookup::Known(addresses) => Ok(addresses.pop_front().map(IpAddress::from)),
            Lookup::Asked { .. } => Ok(None),
        }
    }

    fn subscribe(&mut self, stream: Resource<ResolveAddressStream>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(&mut self.table, ours::<Lookup, _>(&stream))
    }

    fn drop(&mut self, stream: Resource<ResolveAddressStream>) -> wasmtime::Result<()> {
        self.table.delete(ours_owned::<Lookup, _>(&stream))?;
        Ok(())
    }
}

/// Our resource behind a handle of the crate's type.
pub(super) fn ours<T: 'static, U: 'static>(handle: &Resource<U>) -> Resource<T> {
    Resource::new_borrow(handle.rep())
}

/// Our resource behind a handle of the crate's type, to be deleted.
pub(super) fn ours_owned<T: 'static, U: 'static>(handle: &Resource<U>) -> Resource<T> {
    Resource::new_own(handle.rep())
}

/// A handle of the crate's type for a resource of ours.
pub(super) fn theirs<T: 'static, U: 'static>(resource: Resource<T>) -> Resource<U> {
    Resource::new_own(resource.rep())
}
