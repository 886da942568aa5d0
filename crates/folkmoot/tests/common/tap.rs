//! What each service received, after TLS, as it recorded it itself.

use std::path::Path;
use std::process::Command;

use folkmoot_protocol::tap::FOLDER;

/// One request to a service.
pub struct Request {
    /// The method, the path and the connection, then the headers, in lines.
    pub head: String,
    /// All that was received of the body.
    pub body: Vec<u8>,
}

impl Request {
    /// `/folkmoot.delivery.v1.Logs/Append`
    pub fn path(&self) -> &str {
        let target = self.head.lines().next().unwrap().split(' ').nth(1).unwrap();
        &target[target.rfind("/folkmoot.").unwrap()..]
    }

    /// The connection that it came on, by its other end.
    pub fn connection(&self) -> &str {
        self.head.lines().next().unwrap().split(' ').nth(2).unwrap()
    }

    /// The names and values of its headers.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        let lines = self.head.lines().skip(1);
        lines.map(|line| line.split_once(": ").unwrap())
    }

    /// The message in it; `None` if the sender was cut off.
    pub fn message(&self) -> Option<&[u8]> {
        let (prefix, rest) = self.body.split_at_checked(5)?;
        assert_eq!(prefix[0], 0, "it is not compressed");
        let length = u32::from_be_bytes(prefix[1..].try_into().unwrap());
        rest.get(..length as usize)
    }
}

/// Lets a server that this command starts record into a folder.
pub fn on(mut server: Command, folder: &Path) -> Command {
    server.env(FOLDER, folder);
    server
}

/// What a service received, in all processes that recorded into the folder. Those that were killed may
/// have written half of a record.
pub fn received(folder: &Path, service: &str) -> Vec<Request> {
    let mut requests = Vec::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let file = file.unwrap();
        let name = file.file_name().into_string().unwrap();
        if name.starts_with(&format!("{service}.")) && file.file_type().unwrap().is_file() {
            let record = std::fs::read(file.path()).unwrap();
            let mut rest = record.as_slice();
            while let (Some(head), Some(body)) = (part(&mut rest), part(&mut rest)) {
                requests.push(Request {
                    head: String::from_utf8(head).unwrap(),
                    body,
                });
            }
        }
    }
    requests
}

fn part(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let (part, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    *rest = after;
    Some(part.to_vec())
}
