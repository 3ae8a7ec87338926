package redisplane

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"github.com/redis/go-redis/v9"
)

var libraryLogger sync.Once

// logLibrary sends what the Redis library logs, by default to standard error, to the
// logger at debug level. The library has one logger for the process, so the first call
// counts.
func logLibrary(logger *slog.Logger) {
	libraryLogger.Do(func() { redis.SetLogger(library{logger}) })
}

type library struct{ logger *slog.Logger }

func (l library) Printf(ctx context.Context, format string, v ...any) {
	if l.logger.Enabled(ctx, slog.LevelDebug) {
		l.logger.DebugContext(ctx, "redis client library", "message", fmt.Sprintf(format, v...))
	}
}
