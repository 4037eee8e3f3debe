// Bento with the components that the bench needs, and no others: NATS, Redis, HTTP, and mappings.
package main

import (
	"context"
	"runtime/debug"

	_ "github.com/warpstreamlabs/bento/public/components/io"
	_ "github.com/warpstreamlabs/bento/public/components/nats"
	_ "github.com/warpstreamlabs/bento/public/components/pure"
	_ "github.com/warpstreamlabs/bento/public/components/redis"
	"github.com/warpstreamlabs/bento/public/service"
)

func main() {
	service.RunCLI(context.Background(), service.CLIOptSetVersion(version(), ""))
}

// As go.mod pins it.
func version() string {
	info, _ := debug.ReadBuildInfo()
	for _, module := range info.Deps {
		if module.Path == "github.com/warpstreamlabs/bento" {
			return module.Version
		}
	}
	return "unknown"
}
