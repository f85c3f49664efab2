//! Buffers that are used again.
//!
//! Input: bytes of a frame. Output: a frame that holds them, without an allocation where one of
//! about that size has come back. Most frames are small and some are trains of 64 KiB, and
//! thousands of them may be on their way: so there are three sizes.

use super::frame::Frame;
use std::rc::Rc;

/// Bytes of a buffer, and how many of them are kept for later.
const SIZES: [(usize, usize); 3] = [(2 << 10, 4096), (16 << 10, 512), (66 << 10, 128)];

/// Frames that nobody needs.
#[derive(Debug, Default)]
pub(super) struct Pool {
    free: [Vec<Rc<Frame>>; SIZES.len()],
}

impl Pool {
    /// A frame with what was read from a TAP.
    pub(super) fn take(&mut self, read: &[u8]) -> Rc<Frame> {
        let size = SIZES.iter().position(|(bytes, _)| read.len() <= *bytes);
        let size = size.unwrap_or(SIZES.len() - 1);
        let old = self.free[size].pop().filter(|frame| Rc::strong_count(frame) == 1);
        let mut frame = old.unwrap_or_else(|| Rc::new(Frame::with_room(SIZES[size].0)));
        if let Some(frame) = Rc::get_mut(&mut frame) {
            frame.fill(read);
        }
        frame
    }

    /// A frame that has been used; it is kept when this was its last user.
    pub(super) fn give(&mut self, frame: Rc<Frame>) {
        let size = SIZES.iter().position(|(bytes, _)| *bytes == frame.room());
        let Some(size) = size.filter(|_| Rc::strong_count(&frame) == 1) else { return };
        if self.free[size].len() < SIZES[size].1 {
            self.free[size].push(frame);
        }
    }
}
