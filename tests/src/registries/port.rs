//! Ports that servers of this machine's labs share.

use crate::lab_directory;
use anyhow::{Result, bail};
use std::fs::File;
use std::net::TcpListener;
use std::ops::Range;

/// A reserved port. A lock keeps other labs on this machine from using it while the value lives.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// Its number.
    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    /// A port of `range` that nobody uses.
    pub(crate) fn free(range: Range<u16>) -> Result<Port> {
        let room = lab_directory("ports")?;
        for number in range.clone() {
            let lock = File::create(room.join(number.to_string()))?;
            if lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", number)).is_ok() {
                return Ok(Port { number, _lock: lock });
            }
        }
        bail!("all ports from {} to {} are taken", range.start, range.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_held_once() {
        let range = 35600..35603;
        let first = Port::free(range.clone()).unwrap();
        let second = Port::free(range.clone()).unwrap();
        assert_ne!(first.number, second.number);
        let third = Port::free(range.clone()).unwrap();
        assert!(Port::free(range.clone()).is_err());
        drop(third);
        assert!(Port::free(range).is_ok());
    }
}
