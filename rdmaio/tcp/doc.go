// Package tcp is the provider of rdmaio that is always there: sessions over TCP,
// plain or under TLS.
//
// # What it promises
//
// What rdmaio says of sessions. Post sends from the calling goroutine, by one
// writev straight out of the posted segments, as far as the socket takes it
// without waiting; the session's sender goroutine finishes the rest. At the far
// end a Write is handed to its target in place, out of the buffer that it was
// received in. A Flush that takes time runs beside the receiving of later
// writes, and all that are asked for meanwhile become one.
//
// A peer that speaks anything but this protocol, or says what is not allowed,
// is told so by an Error frame if it can still understand one; then the
// connection is closed and one line is logged. Nothing is allocated for what a
// header claims: a buffer grows by doubling when it is full of bytes that have
// arrived, to the bound of the frame's type at most; before the Hello that
// is 16 KiB, and the Hello has a deadline.
//
// A far end that owes an answer and is silent for Options.DeadAfter, up to a
// quarter longer, is given up; one that is at work says Busy every
// Options.BusyEvery and is waited for. An idle session does nothing at all.
//
// Under TLS, which is 1.3 only, a client proves a key at each connection (Key), and
// the host is told which; no authority vouches for it, since grants name keys. Who
// dials believes the far end's certificate as its configuration says, or nothing is
// sent. A handshake has the deadline and the place of a Hello. An end that is plain
// where the other is not gets ErrTLS: a plain client by an Error frame, sent plainly.
// A session is bytes through the sender then: Post does not send by itself, nothing
// is sent from its place without a copy, and what waits leaves in one record.
//
// # What it assumes
//
// Linux. A network that may cut, delay or repeat a connection's attempts but not
// invent peers: without TLS nothing here keeps an attacker out who can read or
// write the packets.
//
// # Concurrency
//
// [Conn] as rdmaio.Session says; Post of one goroutine at a time, the rest from
// any. [Listener]: one Run. A session takes two goroutines at the near end, one
// at the far end and another once it has had a flush that is not cheap.
//
// # On the wire, version 1
//
// Version 1 is frozen; testdata has a frame of each type. All integers are little
// endian. A connection carries frames, in both directions, from its first byte on.
// A frame is a header and a body:
//
//	0   u32  magic "GrvT"
//	4   u8   version of the protocol, 1
//	5   u8   type
//	6   u16  flags; bit 0 of Write: a flush is asked for as well; else zero
//	8   u32  id: a request's number, repeated by its answer
//	12  u32  length of the body in bytes
//	16  u64  argument, by type; else zero
//	24  u32  CRC32C of the body; zero for Write
//	28  u32  CRC32C of bytes 0 to 28
//	32  body
//
// A frame of another version than was agreed, of an unknown type, with a wrong
// CRC, an unknown flag, a body longer than allowed or bytes left over in it ends
// the connection.
//
// The payload of Write has no CRC of its own: it is whole records, each carries
// one that the target checks before the bytes count for anything, and where
// they belong and how many they are is in the header, which is checked. The
// bodies of all other frames are.
//
//	type        from    argument     body, and its greatest length
//	1  Hello    client  –            see below                          16 KiB
//	2  Welcome  server  –            see below                          16 KiB
//	3  Fence    client  –            –
//	4  Report   server  –            see below                          16 KiB
//	5  Write    client  LSN          whole records                      1088 KiB
//	6  Flush    client  –            –
//	7  Flushed  server  durable LSN  –
//	8  Read     client  LSN          u32 bytes wanted, 256 KiB at most
//	9  Bytes    server  –            as many as wanted                  256 KiB
//	10 Align    client  LSN          –
//	11 Reset    client  trim LSN     u64 epoch, u32 CRC of the trim point
//	12 Seal     client  tail         hint, set, seals                   16 KiB
//	13 Trim     client  trim LSN     as Reset
//	14 Done     server  –            –
//	15 Info     client  –            –
//	16 State    server  –            see below                          16 KiB
//	17 Error    server  –            u32 code (rdmaio.Code), fence, text: detail
//	18 Busy     server  –            –
//	19 Reseal   client  set version  set                                113
//
// The first frame is the client's Hello; the server answers Welcome or Error.
// Then the client sends what it likes without waiting; the server handles it in
// order. Fence is answered by Report, Read by Bytes, Info by State, the other
// requests by Done, each under the request's id and after all flushes asked
// for before it; or by Error, which refuses that request alone. Write has no
// answer. Flushed answers all flushes asked for up to the Write or Flush whose
// id it carries. An Error under id 0 ends the session: it is the answer to a
// failed Write or Flush and to all that is malformed. Busy answers nothing; it
// says that the server is at work. Ids count up from 1 on each connection and
// wrap; the Hello's is 0. A client closes the connection when it is done; one
// that only closes its sending half still gets its answers.
//
// In bodies, an ID is 16 bytes; a fence is u64 epoch, u64 nonce; a position is
// u64 epoch, u64 LSN; a bool is a byte 0 or 1; a text is u16 length and as many
// bytes of UTF-8, 1 KiB at most but for the grant; a set is u8 count, at most 7,
// and as many IDs; seals are u8 count, at most 32, and as many of 40 bytes as in
// a header slot (pmemlog/format).
//
//	Hello    u32 lowest, u32 highest protocol version offered; ID cluster, log,
//	         replica; fence term; u64 capacity; u8 flags (1 create, 2 read-only);
//	         text grant, up to 16301 bytes
//	Welcome  u32 version chosen; ID pool; bool created; text daemon, media, flush mode
//	Report   fence; trim: u64 LSN, u64 epoch, u32 CRC; u64 tail; u64 durable;
//	         position last, evidence; u64 commit; u64 records; u64 capacity;
//	         u8 count of pairs, at most 128, each fence, u64 first LSN, bool known;
//	         set; seals
//	Seal     position hint; set; seals
//	State    header slot, 4096 bytes as in pmemlog/format, version 1; u64 tail; u64 durable;
//	         bool scanned; text media, failure
//
// A Report of more pairs carries the newest 128. That makes an opener rewrite
// more than it had to, never less.
//
// # Other versions
//
// The server chooses the highest version that both speak; without one it answers
// with an Error of code 1 and closes. All frames from the Welcome on carry the
// version that was chosen. Those before it carry the lowest that their sender
// speaks, and there no one looks at it: two programs that have nothing in common
// must understand each other so far. Hence this stays in every version:
//
//   - all of a frame's header, as long as nothing has been chosen, and after that
//     the places of its magic, version and CRC;
//   - the types and bodies of Error and Busy;
//   - what is in a Hello now. A later version may append to it, and a client that
//     offers that version may send it: a server that does not know the highest one
//     offered ignores what is behind. Flags that this version does not have need a
//     client that offers none as low as this;
//   - the first u32 of a Welcome. The rest of it is of the version chosen.
//
// Version 2 would come in two releases. The first speaks 1 to 2: it lays out what
// it sends by the version that was chosen, and does in a session of version 1 what
// was done before. It may be brought to daemons and clients in any order, and be
// taken back. When no program is left that speaks only 1, the second speaks only
// 2. The tests have peers of each kind.
//
// Records and the header slot in State belong to the protocol. A writer may post
// records of a newer version only when the sessions of all its replicas are of a
// protocol version that has them; a daemon answers Info in a session of version 1
// with a slot of version 1, whatever is on its medium. What Read brings is the
// ring as it is: a reader that does not know the records in it is told so by
// format.Scan.
package tcp
