//! The sockets that the process listens on: its own, or those of the process that it takes over from.

use std::fs::DirBuilder;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, chown, lchown};
use std::os::unix::net::UnixListener;
use std::path::Path;

use dragoman_config::{Config, ControlSocket};
use dragoman_proxy::Listeners;
use nix::errno::Errno;
use nix::unistd::{Gid, Uid};

use crate::app::{StartError, cannot};
use crate::takeover::Inherited;

/// Where the control surface has its socket, unless the configuration says otherwise.
pub(crate) const USUAL_SOCKET: &str = "/run/dragoman/control.sock";

/// Everything that the process listens on.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    pub(crate) flows: Listeners,
    pub(crate) admin: Vec<TcpListener>,
    pub(crate) control: Vec<TcpListener>,
    pub(crate) control_socket: Option<UnixListener>,
    /// Copies of all of them, to be given away.
    pub(crate) copies: Vec<OwnedFd>,
}

impl Sockets {
    /// Listens where the configuration says, and takes what `inherited` has of that. `owner` is who the process will
    /// run as.
    ///
    /// # Errors
    /// What cannot be listened on, why, and what to do.
    pub(crate) fn open(
        config: &Config,
        inherited: Option<&mut Inherited>,
        owner: (Uid, Gid),
    ) -> Result<Self, StartError> {
        let mut opener = Opener { inherited, copies: Vec::new() };
        let mut flows = Listeners::default();
        for &address in &config.proxy.listen {
            match opener.tcp(address) {
                // The default has ::1, which a machine without IPv6 does not have: nothing can be captured there either.
                Err(error) if config.proxy.listen.len() > 1 && lacks_ipv6(address, &error) => {
                    tracing::warn!("no IPv6 here ({error}): listening on IPv4 alone");
                }
                listener => flows.add_captured(said(listener, address, "proxy.port")?),
            }
        }
        for port in &config.listeners {
            let key = format!("listener.{}.address", port.name);
            flows.add_plain(port.address, said(opener.tcp(port.address), port.address, &key)?);
        }
        if let Some(inbound) = &config.inbound {
            opener.inbound(inbound.port, &mut flows)?;
        }
        opener.dns(&config.dns.listen, &mut flows)?;
        let admin = opener.admin(&config.admin.listen)?;
        let control = config.control.listen.iter();
        let control = control.map(|&address| said(opener.tcp(address), address, "control.listen"));
        let control = control.collect::<Result<_, _>>()?;
        let control_socket = opener.control_socket(&config.control.socket, owner)?;
        let copies = opener.copies;
        flows.set_own(dragoman_net::inodes(&copies).map_err(|error| cannot("look at the sockets", &error))?);
        Ok(Self { flows, admin, control, control_socket, copies })
    }
}

/// Finds or makes one socket after the other.
struct Opener<'a> {
    inherited: Option<&'a mut Inherited>,
    copies: Vec<OwnedFd>,
}

impl Opener<'_> {
    fn tcp(&mut self, address: SocketAddr) -> io::Result<TcpListener> {
        let taken = self.inherited.as_mut().and_then(|inherited| inherited.tcp(address));
        let listener = match taken {
            Some(listener) => {
                // Another version may have made it.
                dragoman_net::prepare_accepted(&listener)?;
                listener
            }
            None => dragoman_net::listen(address)?,
        };
        self.copies.push(listener.try_clone()?.into());
        Ok(listener)
    }

    /// On every address: what comes from outside is redirected to that of the interface by which it came.
    fn inbound(&mut self, port: u16, flows: &mut Listeners) -> Result<(), StartError> {
        for any in [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()] {
            let address = SocketAddr::new(any, port);
            match self.tcp(address) {
                Err(error) if address.is_ipv6() && lacks_ipv6(address, &error) => {}
                listener => flows.add_inbound(said(listener, address, "inbound.port")?),
            }
        }
        Ok(())
    }

    /// A list for every machine, as `0.0.0.0` and `[::]`, is for one without IPv6 too.
    fn admin(&mut self, addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, StartError> {
        let mut listeners = Vec::new();
        for &address in addresses {
            match self.tcp(address) {
                Err(error) if addresses.len() > 1 && lacks_ipv6(address, &error) => {
                    tracing::warn!(%address, %error, "no IPv6 here: not listening there (admin.listen)");
                }
                listener => listeners.push(said(listener, address, "admin.listen")?),
            }
        }
        Ok(listeners)
    }

    /// Both sockets of each address for DNS.
    fn dns(&mut self, addresses: &[SocketAddr], flows: &mut Listeners) -> Result<(), StartError> {
        const KEY: &str = "dns.listen";
        for &address in addresses {
            match self.udp(address) {
                // Queries over IPv6 cannot come where there is none.
                Err(error) if addresses.len() > 1 && lacks_ipv6(address, &error) => continue,
                socket => flows.add_dns_udp(said(socket, address, KEY)?),
            }
            flows.add_dns_tcp(said(self.tcp(address), address, KEY)?);
        }
        Ok(())
    }

    fn udp(&mut self, address: SocketAddr) -> io::Result<UdpSocket> {
        let taken = self.inherited.as_mut().and_then(|inherited| inherited.udp(address));
        let socket = taken.map_or_else(|| dragoman_net::listen_udp(address), Ok)?;
        self.copies.push(socket.try_clone()?.into());
        Ok(socket)
    }

    fn unix(&mut self, path: &Path, owner: (Uid, Gid)) -> io::Result<UnixListener> {
        let taken = self.inherited.as_mut().and_then(|inherited| inherited.unix(path));
        let listener = taken.map_or_else(|| dragoman_net::listen_unix(path), Ok)?;
        if Uid::effective().is_root() {
            // The folder is `owner`'s, who may have put a link to a file of root's there meanwhile.
            lchown(path, Some(owner.0.as_raw()), Some(owner.1.as_raw()))?;
        }
        self.copies.push(listener.try_clone()?.into());
        Ok(listener)
    }

    /// The usual place may be taken or out of reach, and then there is none; one that is asked for must be had.
    fn control_socket(
        &mut self,
        socket: &ControlSocket,
        owner: (Uid, Gid),
    ) -> Result<Option<UnixListener>, StartError> {
        match socket {
            ControlSocket::Off => Ok(None),
            ControlSocket::At(path) => match self.unix(path, owner) {
                Ok(listener) => Ok(Some(listener)),
                Err(error) => Err(StartError(format!(
                    "cannot listen on {} (control.socket): {error}; its folder must be there and writable, and no \
                     other dragoman on it",
                    path.display()
                ))),
            },
            ControlSocket::Usual => {
                let path = Path::new(USUAL_SOCKET);
                let listener = make_folder(path, owner).and_then(|()| self.unix(path, owner));
                if let Err(error) = &listener {
                    tracing::info!(path = USUAL_SOCKET, %error, "no control socket; control.socket says where to have one");
                }
                Ok(listener.ok())
            }
        }
    }
}

/// Makes the folder of the usual socket, for whoever the process will run as.
fn make_folder(path: &Path, owner: (Uid, Gid)) -> io::Result<()> {
    let folder = path.parent().expect("the usual path has a folder");
    match DirBuilder::new().mode(0o755).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
        Ok(()) if Uid::effective().is_root() => chown(folder, Some(owner.0.as_raw()), Some(owner.1.as_raw())),
        Ok(()) => Ok(()),
    }
}

fn lacks_ipv6(address: SocketAddr, error: &io::Error) -> bool {
    [Ipv6Addr::LOCALHOST, Ipv6Addr::UNSPECIFIED].iter().any(|ip| address.ip() == *ip)
        && matches!(
            error.raw_os_error().map(Errno::from_raw),
            Some(Errno::EADDRNOTAVAIL | Errno::EAFNOSUPPORT)
        )
}

/// What went wrong, where, and what to do.
fn said<T>(listener: io::Result<T>, address: SocketAddr, key: &str) -> Result<T, StartError> {
    let port = address.port();
    listener.map_err(|error| {
        let advice = match error.kind() {
            io::ErrorKind::AddrInUse => format!(
                "the port is taken (by another dragoman? `ss -lntup sport = :{port}` says by whom); free it or change \
                 {key}"
            ),
            io::ErrorKind::PermissionDenied => format!(
                "not allowed ({error}); ports below 1024 need root or CAP_NET_BIND_SERVICE, or change {key}"
            ),
            io::ErrorKind::AddrNotAvailable => {
                format!("this machine does not have the address ({error}); change {key}")
            }
            _ => format!("{error}; see {key}"),
        };
        StartError(format!("cannot listen on {address}: {advice}"))
    })
}
