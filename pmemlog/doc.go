// Package pmemlog keeps replicas of logs in a pool on one machine: the pool, its
// replicas, the rules of what may be written to them, and what they can vouch
// for after a crash.
//
// # What it promises
//
// [Session.Flush] returns an LSN only when all below it has been synced. What
// was flushed is there after any crash, and so are fences, seals and trim LSNs
// that a call has returned for. A crash in the middle of a change leaves the old
// state or the new one, never a third.
//
// A replica serves one writer: [Session.Fence] persists the writer's term, ends
// the sessions before it, makes persistent what they wrote, and only then scans
// the bytes and answers. Each later check and the write that it admits are one
// critical section, so no write that was admitted before a fence lands after it.
//
// A replica knows what it has lost. Its hint, the position up to which it has
// acknowledged, is on media late by the last flush and less than 256 KiB before it
// (HintNext and PersistHint end that), and never ahead of what is persistent. A scan that ends below the hint, or below a
// commit LSN that records behind its end carry, makes a suspect; its fence
// persists that evidence as the hint, because rewriting destroys the records.
// A suspect's hint falls only when a Seal says that the loss is made good, and
// not even then when the seal leaves out what was lost in the sealed epoch.
//
// What another version of the program wrote is not misread, and not written over:
// see package format. A pool of one is refused with ErrVersion before a byte of it
// has changed, a replica by itself, and a log that goes on with a record of
// one by its fence.
//
// [Inspect] looks at a pool that nobody uses and changes nothing: it finds what
// Open and Fence would, says what each finding costs and what to do, and an
// [Inspection] can export what a replica holds.
//
// Whatever the bytes say, nothing panics, and nothing is allocated because the
// bytes claim it. A damaged pool or replica gives a typed error that says what to
// do. Memory does not grow with the pool, except on a volatile medium.
//
// Each medium is what it says: on `file` a write is persistent after an fdatasync
// that all callers share, on `pmem` when it returns, because the CPU has flushed
// or streamed its lines and fenced, on `volatile` never. A mapping whose stores
// nobody vouches for is no pmem: see [Durability].
//
// # What it assumes
//
// Of what was written since the last sync, any subset may survive a crash, torn
// between aligned 8-byte words. A sync that returned has made persistent all that
// was written before it. A sync that failed has left behind what nobody can know, so
// the pool is poisoned: [ErrPoisoned] from then on, until it is opened anew. So has a
// write that failed, unless it is known that it failed for its place, and that place
// alone: see below. Of persistent memory, what was stored may survive in any subset of
// its 8-byte words until its line was flushed, or it was streamed, and a fence came
// behind; a fault of the mapping is damage like any other. Damage hits one place at
// a time; what has two copies (superblock, directory) heals from it. Damage to the
// newest header slot of a replica looks like the torn slot of a crash and brings
// the older one back; it is noticed where a hint line refers to the lost one.
//
// A pool is one process's. Its lock is one on the node that was opened; a block
// device is held for one process by the kernel, too, but a device-dax with two
// nodes, such as a container's own beside the host's, can be locked twice. Each
// fence, and each change of superblock or directory, therefore looks whether the
// superblocks are still what this pool wrote, and fails it with a [TakenError] if
// not: who has opened it last goes on. What remains is the time until then, in
// which sessions of both write, each unaware of the other, and who has opened the
// pool without changing a superblock, as no daemon that has been registered does.
//
// A sync that says it succeeded and did not breaks the promises. It is noticed, as
// a suspect or a replica that is refused, wherever something that is persistent
// tells: a hint that a later flush carried, a commit LSN in a later record, a hint
// line of the lost header. Of the last flush before the power cut nothing does, nor
// of those before it whose records are all lost and were not hinted yet, and nothing
// tells where all syncs lie.
//
// # Damage
//
// Bad memory and bad sectors are normal, and cost no more than what lies on them.
// A read that fails is ErrUnreadable and its replica's business alone: a fence's
// scan ends the log there, what can be read beside the bad page still testifies,
// and the other replicas and the pool go on. What is known to be wrong with a
// replica stays with it ([Info], Damage) until it has been rewritten, trimmed or
// dropped, or a later look finds it good. It is kept in memory: after a restart the
// next fence or scrub finds it again.
//
// A write that meets memory that faults, or a sector that the system would have to
// read first (EIO), fails for its place, and nothing else is the worse for it. Such a
// page is written whole, where all of it is known: a disk then puts another sector
// there, and a file system on persistent memory clears the page. Where that fails,
// too, it is ErrUnwritable, and costs what lies there. Of a replica, that is all: its
// sessions end, it takes no writes until it is fenced anew, Info says where it is bad,
// and that fence writes all of its header anew, so that nothing counts which the
// failed write may have left. Of a copy of superblock or directory, the other one
// goes on ([Pool.Unmended]); a change that would have to write over the only good
// copy of an entry is refused. In free space, Create leaves the place out.
//
// A sync that fails, or a write that fails for any other reason, poisons the pool,
// since nobody knows what it left. Everything that only reads goes on: sessions that
// are read-only, [Replica.Scrub], and Info, which says why nothing is written any more.
//
// Nothing is read by itself, so damage to what is seldom read would wait until it
// hurts. [Replica.Scrub] and [Pool.Scrub] read all that has a CRC, at the pace of
// their caller. The log's bytes can't be mended here: only its writer has them. A
// header is written anew from memory, to both places; of superblock and directory
// the bad copy is, and synced before the other one is looked at. A scrub takes no
// lock while it reads that a write, flush or fence waits for: what lies in [trim,
// durable) changes only after the trim LSN, or the count of rewinds, has changed,
// so it looks at those when it has read. [BadBlocks] is what the kernel knows by
// itself.
//
// # Why a crash does no harm
//
//   - Superblock and directory entry have two copies, written one after the other
//     with a sync between and one behind. At most one is torn, the other stands. A
//     torn entry is mended, persistently, by Open, since a change begins with the
//     same copy each time; a change of the superblock begins with the torn one.
//   - Format writes the first superblock's magic number last, a word by itself, so
//     that a medium holds no pool or a whole one.
//   - Create zeroes the region, writes its header, syncs, and only then writes the
//     entry. Delete writes the entry first; the space is used again after that.
//     Which space is free is not stored but follows from the entries.
//   - A header slot is written where the one that counts is not. It counts when it
//     is whole and has the higher generation. Open syncs before it reads, since a
//     process that was killed may have left in the cache what is not persistent.
//     OpenFile and OpenPMem have the cache given up, too: after a sync that failed
//     the system keeps as clean what the disk never got. Of persistent memory, where
//     there is nothing to sync, the lines that are about to be believed are flushed: those
//     of superblocks, directory and headers by Open, those of a ring by each fence.
//   - Hint lines alternate, and each is persistent before the next is written. They
//     name the generation of their header, so a header write replaces them all:
//     that is how a hint is lowered, before an alignment rewrites anything.
//   - A record is valid by itself and by what stands before it (see package format),
//     so bytes that an alignment or a reset leaves behind its tail need not be
//     erased: they join the log only if they are what would be written there.
//   - A fence syncs between the header that promises the term and the scan, and
//     writes its hint after it. With a term that was promised before there is no
//     header write, and without that sync the hint could outlive the records: a
//     replica that has lost nothing would be a suspect.
//
// The TestCrash cases break each operation off at each of these points, in three
// ways, and its recovery again; TestMutation takes the calls away one at a time.
//
// # Concurrency
//
// All methods of [Pool], [Replica] and [Session] may be called from any goroutine;
// the package starts none. Changes to one replica follow one another; replicas do
// not wait for each other, but share syncs: one sync serves all callers that came
// before it began, carried out by one of them. A Flush runs beside later Writes.
// Info, Free, Replicas and Identity never wait for I/O; on persistent memory, whose
// appends are none, Info waits for one that is under way.
//
// # On media
//
// This is version 1, frozen; testdata has a pool of it. All integers are little
// endian; CRCs are CRC32C. In every version a superblock is 4096 bytes and an entry
// 128, with magic, version and CRC where they are now, and the CRC over the same
// bytes. So a program that meets a version that it doesn't know can tell, and
// tells it from damage. A later version is read by one release and written by the
// next, so that a host can go back by one. Version 0 was a draft and is refused.
//
//	0      superblock A     4096 bytes
//	4096   superblock B     4096 bytes
//	8192   directory, A     128 bytes an entry, rounded up to 4096
//	...    directory, B     the same again
//	...    regions          each at a multiple of 4096; see package format
//
// A superblock; the valid copy with the higher generation counts:
//
//	0    u64  magic "GRVNPOOL"
//	8    u32  version, 1
//	12   u32  kind of the medium: 1 file or block device, 2 volatile, 3 pmem
//	16   u64  generation
//	24   u64  size of the pool in bytes
//	32   u64  incarnation of the daemon
//	40   u32  entries of the directory, 1 to 4096
//	44   u32  zero
//	48   pool ID, 64 cluster ID or zeroes: 16 bytes each
//	80   u32  length of the daemon ID, 0 to 255; 84 zeroes
//	96   daemon ID, 255 bytes
//	352  u64  the highest incarnation that the control plane is known to have accepted
//	4092 u32  CRC of bytes 0 to 4092
//
// A directory entry; the valid copy with the higher generation counts. An entry
// that holds nothing is written too, so zeroes are damage:
//
//	0    u32  magic "GRVD"
//	4    u32  CRC of bytes 8 to 128
//	8    u64  generation
//	16   u32  index of the entry
//	20   u32  1 if it holds a replica, 2 if one was removed: then only its ID is
//	     kept, so that it is never made anew; else 0, and the rest is zero
//	24   cluster ID, 40 log ID, 56 replica ID: 16 bytes each
//	72   u64  offset of the region, 80 u64 its length, 88 u64 the ring's capacity, in bytes
//	96   u32  version, 1
//	100  zeroes
//
// A region is a replica's two header slots, hint page and ring, rounded up to
// 4096 bytes.
package pmemlog
