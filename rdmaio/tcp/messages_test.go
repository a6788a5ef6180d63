package tcp

import (
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/rdmaio"
)

func someSeals() []format.Seal {
	return []format.Seal{{Epoch: 1, Nonce: 2, T: 64, Prev: 3, SetVersion: 4}, {Epoch: 5, Nonce: 6, T: 128, Prev: 7, SetVersion: 8}}
}

func someReport() format.Report {
	return format.Report{
		Fenced:   format.Fence{Epoch: 9, Nonce: 10},
		Trim:     format.TrimPoint{LSN: 64, Epoch: 1, CRC: 77},
		Tail:     640,
		Durable:  639,
		Last:     format.Position{Epoch: 5, LSN: 640},
		Pairs:    []format.Pair{{Fence: format.Fence{Epoch: 1, Nonce: 2}, First: 64, Known: true}, {Fence: format.Fence{Epoch: 5}, First: 128}},
		Evidence: format.Position{Epoch: 6, LSN: 700},
		Commit:   600,
		Records:  11,
		Set:      []format.ID{{1}, {2}, {3}},
		Seals:    someSeals(),
		Capacity: 1 << 20,
	}
}

func someInfo() rdmaio.Info {
	return rdmaio.Info{
		Slot: format.Slot{Generation: 3, Log: format.ID{2}, Capacity: 1 << 20, Seals: someSeals(), Set: []format.ID{{4}}},
		Tail: 640, Durable: 128, Scanned: true, Media: "file", Failure: "medium: input/output error",
	}
}

func someSeal() rdmaio.SealIn {
	return rdmaio.SealIn{Seals: someSeals(), Set: []format.ID{{1}, {2}}, Hint: format.Position{Epoch: 5, LSN: 640}, Tail: 640}
}
