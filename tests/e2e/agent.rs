//! Voice agents that behave as a test wants: each is a WebSocket server on a thread of its own.

use std::net::{SocketAddr, TcpListener, TcpStream};

use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

/// An agent that listens.
#[derive(Debug)]
pub(crate) struct Agent {
    address: SocketAddr,
}

impl Agent {
    /// An agent that treats each connection with `behaviour`, on a thread of its own.
    pub(crate) fn start(behaviour: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let behaviour = std::sync::Arc::new(behaviour);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let behaviour = std::sync::Arc::clone(&behaviour);
                std::thread::spawn(move || behaviour(stream));
            }
        });
        Self { address }
    }

    /// An agent that echoes audio.
    pub(crate) fn echo() -> Self {
        Self::start(|stream| echo(accept(stream)))
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The agent's `websocket` object.
    pub(crate) fn websocket(&self) -> Value {
        json!({"url": format!("ws://{}/{{execution_id}}", self.address), "dialect": "asterisk"})
    }
}

/// Upgrades a connection.
pub(crate) fn accept(stream: TcpStream) -> WebSocket<TcpStream> {
    tungstenite::accept(stream).expect("an upgrade")
}

/// Echoes audio until the socket closes.
pub(crate) fn echo(mut socket: WebSocket<TcpStream>) {
    while let Ok(message) = socket.read() {
        if let Message::Binary(_) = &message
            && socket.send(message).is_err()
        {
            return;
        }
    }
}
