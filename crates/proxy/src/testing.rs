//! What the unit tests of this crate share.

use tokio::net::{TcpListener, TcpStream};

/// Both ends of a connection over loopback: that of whoever connected, and that of whoever accepted.
pub(crate) async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (client, accepted) =
        tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (client.unwrap(), accepted.unwrap().0)
}
