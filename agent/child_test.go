package agent

import (
	"context"
	"fmt"
	"os"
)

// With childDir set, the test binary is an agent: something to kill.
const (
	childDir = "GRAVEN_AGENT_TEST_DIR"
	childID  = "GRAVEN_AGENT_TEST_ID"
	childAPI = "GRAVEN_AGENT_TEST_API"
)

func childMain(dir string) int {
	a, err := New(Options{
		ID: os.Getenv(childID), Dir: dir, PoolSize: poolSize, Endpoints: []string{os.Getenv(childAPI)}, LeaseTTL: shortTTL,
		Labels: map[string]string{"host": os.Getenv(childID), "test": os.Getenv(childID)[:len(os.Getenv(childID))-2]},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	go func() {
		<-a.Listening()
		fmt.Println(a.Addr())
	}()
	if err := a.Run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
