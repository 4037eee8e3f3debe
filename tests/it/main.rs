//! The relay against real servers: each test starts its own nats-server, Centrifugo and relay on free ports, waits for
//! conditions instead of sleeping, and leaves nothing behind.

mod absent;
mod bad_input;
mod clients;
mod dead_letters;
mod delivery;
mod faults;
mod memory;
mod publish;
mod world;
