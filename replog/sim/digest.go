package sim

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"reflect"
	"slices"
	"strings"

	"github.com/gravenio/graven/pmemlog"
)

// sum stands for a state: two that have the same go on alike.
type sum [sha256.Size]byte

// sumOf digests all that values hold, exported or not, through pointers, so that
// a field which is added to the core or to a pool is counted without being
// named here. Left out is what can't make a difference between two steps of
// one goroutine: locks, functions, and the counters that uncounted names. A
// medium is its owner's to digest.
func (c counted) sumOf(values ...any) sum {
	d := digester{h: sha256.New(), seen: map[uintptr]uint64{}, counted: c}
	for _, v := range values {
		d.walk(reflect.ValueOf(v))
	}
	return sum(d.h.Sum(nil))
}

// uncounted says which fields count without a say in what happens: the device's
// syncs and a replica's rewinds are compared only while a sync or flush runs,
// and why a replica is away or a scan ended is text for people.
func uncounted(of reflect.Type, field string) bool {
	switch of.String() + "." + field {
	case "pmemlog.device.begun", "pmemlog.device.done", "pmemlog.Replica.rewinds", "pmemlog.Replica.stop", "core.replica.reason":
		return true
	}
	return false
}

// counted remembers which fields of a type count.
type counted map[reflect.Type][]int

func (c counted) of(t reflect.Type) []int {
	if fields, ok := c[t]; ok {
		return fields
	}
	var fields []int
	medium := reflect.TypeFor[pmemlog.Medium]()
	for i := range t.NumField() {
		if f := t.Field(i); t.PkgPath() != "sync" && !f.Type.Implements(medium) && !uncounted(t, f.Name) {
			fields = append(fields, i)
		}
	}
	c[t] = fields
	return fields
}

type digester struct {
	counted counted
	h       hash.Hash
	seen    map[uintptr]uint64 // pointers that have been followed, by number
	buf     [8]byte
}

func (d *digester) number(n uint64) {
	binary.LittleEndian.PutUint64(d.buf[:], n)
	d.h.Write(d.buf[:])
}

func (d *digester) text(s string) {
	d.number(uint64(len(s)))
	d.h.Write([]byte(s))
}

func (d *digester) walk(v reflect.Value) {
	switch v.Kind() {
	case reflect.Bool:
		if v.Bool() {
			d.number(1)
		} else {
			d.number(0)
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		d.number(uint64(v.Int()))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		d.number(v.Uint())
	case reflect.String:
		d.text(v.String())
	case reflect.Slice, reflect.Array:
		d.list(v)
	case reflect.Map:
		d.table(v)
	case reflect.Pointer:
		d.pointer(v)
	case reflect.Interface:
		d.concrete(v)
	case reflect.Struct:
		d.fields(v)
	case reflect.UnsafePointer: // of an atomic pointer: whether it is set is all that is asked
		d.number(uint64(min(v.Pointer(), 1)))
	case reflect.Func:
	default:
		panic(fmt.Sprintf("sim: no digest of a %s", v.Type()))
	}
}

func (d *digester) list(v reflect.Value) {
	d.number(uint64(v.Len()))
	if v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8 {
		d.h.Write(v.Bytes())
		return
	}
	for i := range v.Len() {
		d.walk(v.Index(i))
	}
}

// table digests a map whose keys hold no pointers, in the order of their bytes.
func (d *digester) table(v reflect.Value) {
	type entry struct {
		key   string
		value reflect.Value
	}
	var entries []entry
	for it := v.MapRange(); it.Next(); {
		k := digester{counted: d.counted, h: sha256.New(), seen: map[uintptr]uint64{}}
		k.walk(it.Key())
		entries = append(entries, entry{string(k.h.Sum(nil)), it.Value()})
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.key, b.key) })
	d.number(uint64(len(entries)))
	for _, e := range entries {
		d.text(e.key)
		d.walk(e.value)
	}
}

func (d *digester) pointer(v reflect.Value) {
	if v.IsNil() {
		d.number(0)
		return
	}
	if n, ok := d.seen[v.Pointer()]; ok {
		d.number(n)
		return
	}
	d.seen[v.Pointer()] = uint64(len(d.seen) + 1)
	d.number(uint64(len(d.seen)))
	d.walk(v.Elem())
}

func (d *digester) concrete(v reflect.Value) {
	if v.IsNil() {
		d.number(0)
		return
	}
	d.text(v.Elem().Type().String())
	d.walk(v.Elem())
}

func (d *digester) fields(v reflect.Value) {
	for _, i := range d.counted.of(v.Type()) {
		d.walk(v.Field(i))
	}
}
