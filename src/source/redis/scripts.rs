//! The scripts that change a source in Redis. Each one checks the lease before it changes anything.

use std::sync::LazyLock;

use redis::Script;

macro_rules! script {
    ($name:ident, $file:literal) => {
        pub(super) static $name: LazyLock<Script> = LazyLock::new(|| {
            Script::new(concat!(
                // Whoever reads is the only one who can make room.
                "#!lua flags=allow-oom\n",
                include_str!("scripts/common.lua"),
                include_str!($file)
            ))
        });
    };
}

script!(BEGIN, "scripts/begin.lua");
script!(TAKE_LIST, "scripts/take_list.lua");
script!(TAKE_STREAM, "scripts/take_stream.lua");
script!(SETTLE_LIST, "scripts/settle_list.lua");
script!(SETTLE_STREAM, "scripts/settle_stream.lua");
script!(RENEW, "scripts/renew.lua");
