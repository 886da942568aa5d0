//! The demo's server: a process of its own, with a fresh data folder, on a free port.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::error::DemoError;

/// A running server, which ends with this value.
pub struct Server {
    child: Child,
    url: String,
}

impl Server {
    /// Starts `folkmoot serve` and waits until it says that it is ready.
    pub fn start(data: &Path) -> Result<Self, DemoError> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--json", "serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let mut server = Self {
            child,
            url: String::new(),
        };
        let ready: Option<serde_json::Value> = serde_json::from_str(&line).ok();
        let url = ready
            .as_ref()
            .and_then(|ready| ready.get("server"))
            .and_then(|url| url.as_str());
        server.url = url
            .ok_or_else(|| DemoError::Server(line.trim().to_owned()))?
            .to_owned();
        Ok(server)
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// As clients need it, with the pin.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The server must have lived until the end.
    pub fn stop(mut self) -> Result<(), DemoError> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(DemoError::Server(format!("ended early, {status}"))),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already gone is as good as ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
