//! The RTP session by behaviour, in virtual time: a scripted peer sends, a listener drains the session
//! whenever something arrives or is due, as the bridge does. No clock is read; arrival is what the test says.

mod line;
mod receiving;
mod secured;
mod sending;
mod steady;
