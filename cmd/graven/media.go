package main

import (
	"fmt"

	"github.com/spf13/pflag"

	"github.com/gravenio/graven/agent"
	"github.com/gravenio/graven/pmemlog"
)

// durabilityFlag adds --durability, which goes with --media pmem.
func durabilityFlag(f *pflag.FlagSet, to *string) {
	f.StringVar(to, "durability", string(pmemlog.DurabilityAuto),
		"why stores to a pool on pmem last, `WHY`: auto (the system vouches: DAX with MAP_SYNC, or a device-dax), or your word: flush (what the CPU writes back survives a power cut), fence (its caches do), msync (the kernel writes it; slow)")
}

// checkPoolMedia checks --media and --durability.
func checkPoolMedia(media, durability string) error {
	if err := oneOf("media", media, agent.MediaFile, agent.MediaPmem, agent.MediaVolatile); err != nil {
		return err
	}
	var known []string
	for _, d := range pmemlog.Durabilities() {
		known = append(known, string(d))
	}
	if err := oneOf("durability", durability, known...); err != nil {
		return err
	}
	if media != agent.MediaPmem && durability != string(pmemlog.DurabilityAuto) {
		return usagef("--durability is %s: it is for --media %s only, this is %s", durability, agent.MediaPmem, media)
	}
	return nil
}

// mediaHonesty says in a few words what an acknowledgement on a medium is worth.
func mediaHonesty(media, durability string) string {
	switch {
	case media == agent.MediaVolatile:
		return "memory: an agent that ends has lost all"
	case media == agent.MediaFile:
		return "every acknowledgement waits for fdatasync"
	case durability == string(pmemlog.DurabilityAuto):
		return "every acknowledgement waits for a flush and a fence of the CPU"
	default:
		return fmt.Sprintf("durability %s: that it lasts is your word", durability)
	}
}
