// Package format is the vocabulary of Graven's replicated log: how records,
// header slots and hint lines look as bytes, and what a scan of them proves.
//
// # What it promises
//
// Pure functions over bytes: no I/O, no clock, no goroutine, no state. The
// agent, the writer and the simulation read the same bytes with the same code,
// so they can't disagree on what a replica holds. Decoding never panics, never
// reads past what it was given and never allocates what the bytes merely claim.
//
// # What it assumes
//
// A region is written only by its agent's CPU, or as records that a fenced
// writer encoded with this package. Capacities and record sizes are multiples
// of [Align].
//
// # Concurrency
//
// Functions may be called from any goroutine; the values, [Ring] among them,
// have no lock of their own.
//
// # Version 1
//
// The layouts below are frozen: this is version 1 of records, of header slots
// and of hint lines, each counted by itself. Whatever gives a meaning to bytes
// that are zero here is a new version. The golden files in testdata are version 1
// byte for byte. All integers are little endian.
//
// A replica's region:
//
//	0      header slot A                     4096 bytes
//	4096   header slot B                     4096 bytes
//	8192   hint page: line A at 0, line B at 512; the rest is zero
//	12288  ring                              capacity bytes
//
// A record, at ring offset LSN mod capacity; it never wraps, a pad record
// fills the end of the ring:
//
//	0   u32  CRC32C of bytes 4 to 64+length (the rest of the header, the payload)
//	4   u32  CRC of the record before it: the chain
//	8   u16  magic 0x6772
//	10  u8   version, 1
//	11  u8   kind: 1 data, 2 pad
//	12  u32  flags, zero
//	16  u32  payload length in bytes, 1 MiB at most
//	20  u32  reserved, zero
//	24  u64  LSN
//	32  u64  epoch of the writer
//	40  u64  commit LSN known to the writer when it wrote
//	48  16 bytes of the caller's metadata
//	64  payload, then zeroes up to the next multiple of 64
//
// No checksum covers those zeroes: a torn write may leave a record that is whole
// and older bytes behind its payload, so nothing reads or compares them.
//
// A header slot; of the two, the valid one with the higher generation counts:
//
//	0    u64  magic "GRVNSLOT"
//	8    u32  version, 1
//	12   u32  number of seals, 0 to 32
//	16   u64  generation
//	24   cluster ID, 40 log ID, 56 replica ID: 16 bytes each
//	72   u64  capacity of the ring in bytes
//	80   u64  fenced epoch, 88 u64 its nonce
//	96   u64  trim LSN, 104 u64 epoch and 112 u32 CRC of the record that ends there
//	120  u64  epoch and 128 u64 LSN of the hint
//	144  u32  number of replicas in the newest seal's set, 0 to 7
//	152  7 replica IDs of 16 bytes
//	264  32 seals of 40 bytes: u64 epoch, u64 nonce, u64 T, u32 CRC of the
//	     record before T, u32 zero, u64 version of the replica set
//	4092 u32  CRC32C of bytes 0 to 4092
//
// A hint line; it counts only with the header generation that it names, so one
// header write replaces seals and hint together:
//
//	0   u32  magic "GHNT"
//	4   u32  CRC32C of bytes 8 to 64
//	8   u64  header generation
//	16  u64  sequence number; of the two lines the higher one counts
//	24  u64  epoch, 32 u64 LSN
//	40  u32  version, 1
//	44  zeroes
//
// # Other versions
//
// What a program does not know, it must neither misread nor overwrite. So this
// stays in every version:
//
//   - A record has its CRC, the chain, magic, version, length, LSN, epoch and
//     commit LSN where they are now; the CRC covers bytes 4 to 64+length; it is
//     64+length bytes, rounded up to 64, and never wraps; length is 1 MiB at
//     most. All that a scan asks of a record can be asked of any version.
//   - A header slot has its magic, version and CRC where they are, over 4096 bytes.
//   - A hint line has its magic, CRC, generation and version where they are, over
//     64 bytes, and a header write voids it.
//
// A record that is valid but for its version, or for a kind, flags or a reserved
// field that version 1 does not have, is another program's: [Scan] fails with
// ErrVersion, where it takes torn and stale bytes for the end of the log. A torn
// line can't do that, since its CRC would have to match. Behind the end a whole
// record of any version testifies to what was committed. A header slot or a hint
// line is refused as soon as it is whole; only a hint line of an older generation
// is void whatever its version, so that a newer program can step back by
// writing both header slots anew, in a version that this one reads.
//
// A later version comes in two releases. The first reads it and goes on writing
// the one before; when all who read a pool or a log can, the second writes it.
// For records that means a log's writer and all its replicas: a protocol version
// of rdmaio says which records a session may carry.
//
// # What a scan proves
//
// A record is valid at L when its own CRC holds, it says LSN L, it carries the
// CRC of the valid record before it, and its epoch is not lower than that
// record's nor than the epoch of any matching seal at or below L. The LSN rejects what an
// earlier lap left; the chain rejects what was written after a predecessor that
// a power cut took back; the epoch rejects what an older writer left beyond the
// point where a newer one went on. See [Scan] for the rest: where a log ends,
// and what tells a hole from a tail.
package format
