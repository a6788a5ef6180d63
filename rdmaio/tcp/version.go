package tcp

import (
	"fmt"

	"github.com/gravenio/graven/rdmaio"
)

// span is a range of protocol versions that one end speaks. The zero span
// stands for what this program speaks; tests have others.
type span struct{ lowest, highest uint8 }

func (s span) withDefault() span {
	if s == (span{}) {
		return span{version, version}
	}
	return s
}

// String renders what a person reads in a refusal.
func (s span) String() string {
	if s.lowest == s.highest {
		return fmt.Sprintf("version %d", s.lowest)
	}
	return fmt.Sprintf("versions %d to %d", s.lowest, s.highest)
}

// choose returns the highest version that both ends speak.
func (s span) choose(lowest, highest uint32) (uint8, error) {
	v := min(uint32(s.highest), highest)
	if v < uint32(s.lowest) || v < lowest {
		return 0, refuse(rdmaio.ErrVersion, "protocol versions %d to %d are offered, this program speaks %v; upgrade the older of the two", lowest, highest, s)
	}
	return uint8(v), nil
}

// check refuses a version that was chosen though it had not been offered.
func (s span) check(chosen uint32) error {
	if chosen < uint32(s.lowest) || chosen > uint32(s.highest) {
		return refuse(rdmaio.ErrVersion, "the daemon chose protocol version %d, this program offered %v", chosen, s)
	}
	return nil
}
