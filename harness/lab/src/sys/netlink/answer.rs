//! What route netlink answers (netlink(7)), message by message. Pure, and sceptical of lengths.

use anyhow::{Context, Result, bail};
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;

/// One received message: struct nlmsghdr and what follows.
#[derive(Debug)]
pub struct Answer<'b> {
    /// Its type.
    pub kind: u16,
    /// Its flags.
    pub flags: u16,
    /// The number of the request that it answers.
    pub sequence: u32,
    pub(in crate::sys) bytes: &'b [u8],
}

const HEADER: usize = 16;

impl Answer<'_> {
    /// Error number and explanation of an NLMSG_ERROR; nothing for a plain acknowledgement.
    ///
    /// With NETLINK_CAP_ACK the payload is the error, the request's header, then attributes, of
    /// which NLMSGERR_ATTR_MSG (1) is a text.
    ///
    /// # Errors
    /// When it is too short.
    pub fn error(&self) -> Result<Option<(i32, String)>> {
        let code = self.bytes.get(HEADER..HEADER + 4).context("netlink error without a code")?;
        let code = i32::from_ne_bytes(code.try_into()?);
        if code == 0 {
            return Ok(None);
        }
        let mut attributes = self.bytes.get(HEADER + 4 + HEADER..).unwrap_or_default();
        let mut explanation = String::new();
        while let [l0, l1, k0, k1, ..] = *attributes {
            let length = usize::from(u16::from_ne_bytes([l0, l1]));
            let Some(value) = attributes.get(4..length) else { break };
            if u16::from_ne_bytes([k0, k1]) == 1 {
                let text = value.strip_suffix(&[0]).unwrap_or(value);
                explanation = String::from_utf8_lossy(text).trim_end_matches('.').to_owned();
            }
            attributes = attributes.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(Some((code.wrapping_neg(), explanation)))
    }

    /// What it lists.
    ///
    /// # Errors
    /// When it is no whole message of route netlink.
    pub fn content(&self) -> Result<RouteNetlinkMessage> {
        match NetlinkMessage::deserialize(self.bytes)?.payload {
            NetlinkPayload::InnerMessage(message) => Ok(message),
            _ => bail!("unexpected netlink message of type {}", self.kind),
        }
    }
}

/// The messages in one received buffer; after one that is cut off there is no other.
#[derive(Debug)]
pub struct Answers<'b>(pub &'b [u8]);

impl<'b> Iterator for Answers<'b> {
    type Item = Result<Answer<'b>>;

    fn next(&mut self) -> Option<Self::Item> {
        let all = std::mem::take(&mut self.0);
        if all.is_empty() {
            return None;
        }
        let word = |at: usize| Some(u32::from_ne_bytes(all.get(at..at + 4)?.try_into().ok()?));
        let half = |at: usize| Some(u16::from_ne_bytes(all.get(at..at + 2)?.try_into().ok()?));
        let message = || {
            let bytes = all.get(..word(0)? as usize).filter(|b| b.len() >= HEADER)?;
            Some(Answer { kind: half(4)?, flags: half(6)?, sequence: word(8)?, bytes })
        };
        let Some(message) = message() else {
            return Some(Err(anyhow::anyhow!("netlink answered with a truncated message")));
        };
        self.0 = all.get(message.bytes.len().next_multiple_of(4)..).unwrap_or_default();
        Some(Ok(message))
    }
}
