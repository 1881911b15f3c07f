//! The product against programs that nobody here wrote: carriers on one side, voice agents on
//! the other. `tests/run` installs them and runs this.

mod agents;
mod api;
mod baresip;
mod doctor;
mod echo_agent;
mod gateways;
mod kamailio;
mod object_store;
mod outbound;
mod registrar;
mod scanner;
mod sipp;
mod srtp;
mod transfer;
mod wideband;
