package soak

import (
	"fmt"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

// The names are a set of registers: absent, or a log in an epoch. Each call is
// repeated until its outcome is known, so that it either happened or did not.
type nameCall string

const (
	callCreate nameCall = "create"
	callDelete nameCall = "delete"
	callOpen   nameCall = "open"
)

// nameInput is a call; deletes and opens name the log by its ID.
type nameInput struct {
	call nameCall
	name string
	id   string
}

// nameOutput is its outcome.
type nameOutput struct {
	ok    bool
	id    string // that a create made
	epoch uint64 // of an open
	// repeated says that an earlier attempt's answer was lost, so that "there is no
	// such log" may be its work.
	repeated bool
	refused  bool // in use: the log is there
}

type nameState struct {
	id    string
	epoch uint64
}

func step(state, input, output any) (bool, any) {
	s, in, out := state.(nameState), input.(nameInput), output.(nameOutput)
	here := s.id != "" && s.id == in.id
	switch {
	case in.call == callCreate && out.ok:
		return s.id == "", nameState{id: out.id}
	case in.call == callCreate: // the name is taken
		return s.id != "", s
	case out.refused:
		return here, s
	case in.call == callDelete && out.ok:
		return here, nameState{}
	case in.call == callDelete && out.repeated && here:
		return true, nameState{}
	case in.call == callOpen && out.ok:
		return here && out.epoch > s.epoch, nameState{id: s.id, epoch: out.epoch}
	}
	return !here, s // there is no such log
}

// names records the calls on names.
type names struct {
	begun time.Time
	mu    sync.Mutex
	calls []porcupine.Operation
}

func (n *names) call() int64 { return time.Since(n.begun).Nanoseconds() }

func (n *names) record(client int, in nameInput, call int64, out nameOutput) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.calls = append(n.calls, porcupine.Operation{ClientId: client, Input: in, Call: call, Output: out, Return: n.call()})
}

// checkTime bounds the search for an order of the calls on all names.
const checkTime = 2 * time.Minute

// check says whether the calls can be put into an order.
func (n *names) check() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	model := porcupine.Model{
		Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
			by := map[string][]porcupine.Operation{}
			for _, op := range history {
				name := op.Input.(nameInput).name
				by[name] = append(by[name], op)
			}
			var parts [][]porcupine.Operation
			for _, name := range sorted(by) {
				parts = append(parts, by[name])
			}
			return parts
		},
		Init: func() any { return nameState{} },
		Step: step,
	}
	var wrong []string
	for _, part := range model.Partition(n.calls) {
		one := model
		one.Partition = nil
		if got := porcupine.CheckOperationsTimeout(one, part, checkTime); got != porcupine.Ok {
			text := fmt.Sprintf("the calls on name %s can't be put into an order (%s):", part[0].Input.(nameInput).name, got)
			for _, op := range part[:min(len(part), 60)] {
				text += fmt.Sprintf("\n    %12d to %12d client %d %+v: %+v", op.Call, op.Return, op.ClientId, op.Input, op.Output)
			}
			wrong = append(wrong, text)
		}
	}
	return wrong
}
