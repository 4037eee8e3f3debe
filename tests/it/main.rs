//! The relay against real servers: each test starts its own nats-server, Centrifugo and relay on free ports, waits for
//! conditions instead of sleeping, and leaves nothing behind.

mod commands;
mod delivery;
mod directory;
mod numbers;
mod options;
mod streams;
mod world;
