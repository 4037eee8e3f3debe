//! The relay against real servers. Each test starts its own nats-server, Centrifugo and relay on free ports, waits for
//! conditions instead of sleeping, and leaves nothing behind.

mod absent;
mod bad_input;
mod blame;
mod chaos;
mod clients;
mod commands;
mod conflate;
mod dead_letters;
mod delivery;
mod directory;
mod fairness;
mod faults;
mod grpc;
mod halts;
mod incarnations;
mod languages;
mod loading;
mod log;
mod manual;
mod memory;
mod neighbour;
mod numbers;
mod options;
mod outages;
mod publish;
mod replay;
mod standby;
mod stored;
mod stream_settings;
mod streams;
mod swaps;
mod unreadable;
mod unseen;
mod versions;
mod world;
