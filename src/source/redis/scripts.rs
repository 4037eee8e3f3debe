//! The scripts that change anything in Redis. Each one first looks at the lease.

use std::sync::LazyLock;

use redis::Script;

macro_rules! script {
    ($name:ident, $file:literal) => {
        pub(super) static $name: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!($file)));
    };
}

script!(BEGIN, "scripts/begin.lua");
script!(TAKE_LIST, "scripts/take_list.lua");
script!(TAKE_STREAM, "scripts/take_stream.lua");
script!(SETTLE_LIST, "scripts/settle_list.lua");
script!(SETTLE_STREAM, "scripts/settle_stream.lua");
script!(RENEW, "scripts/renew.lua");
