// Package store is the control plane's memory: the only package that knows
// etcd.
//
// # What it promises
//
// Every change is one etcd transaction that compares all it was decided on, so
// any number of servers can work on the same etcd. A call that returns nil has
// happened; a call that returns ErrUnavailable, or that its caller gave up, may
// have happened; any other error means that nothing was changed. No call hangs: each ends within
// Options.CallTimeout. After a change, this store's own View has seen it, unless
// the view is more than a second behind.
//
// No wall clock decides anything: times in values are for people. Expiry is
// etcd's, by leases.
//
// A lost lease deletes only what is on it, the daemon's or the writer's sign of
// life. It never touches a replica.
//
// # What it assumes
//
// Nobody else writes below /graven/. All servers have the same schema version.
// Daemons persist their incarnation before they register with it.
//
// # Concurrency
//
// Store, View and Subscription are safe for concurrent use. Run must be running
// for the view, for keep-alives and so for most calls.
//
// # In etcd
//
// All values are JSON objects with a schema version "v".
//
//	key                                    value (Go type)                        lasts
//	/graven/cluster                        cluster ID, etcd's ID, life            for ever
//	                                       (clusterRecord)
//	/graven/keys/grant                     what grants are signed with, schema 2; for ever
//	                                       of schema 1, one seed (keyRing)
//	/graven/keys/period                    the period of new grants               for ever
//	                                       (periodRecord)
//	/graven/keys/marks                     what servers prove marks with          for ever
//	                                       (markKeyRecord)
//	/graven/daemons/<id>                   pool, incarnation, facts, draining,    until deleted
//	                                       down_since, its name (daemonRecord)
//	/graven/live/<id>                      addresses, free, health, replica       on the daemon's lease
//	                                       summaries (liveRecord)
//	/graven/space/<id>                     bytes reserved on it (spaceRecord)     as the daemon
//	/graven/pools/<pool_id>                daemon ID (ownerRecord)                as the daemon
//	/graven/addresses/<host:port>          daemon ID (ownerRecord)                on the daemon's lease
//	/graven/addresses/rdma/<host:port>     the same, in the RDMA network          on the daemon's lease
//	/graven/gone/<id>                      the daemon was deleted (goneRecord)    IdempotencyTTL or longer;
//	                                                                              for ever if it was lost
//	/graven/logs/<log_id>                  sizes, placement rules, replicas, set  until deleted
//	                                       version, epoch, nonce, last writer, owner
//	                                       (logRecord)
//	/graven/lognames/<name>                log ID (nameRecord)                    as the log
//	/graven/writers/<log_id>               who writes it now (writerRecord)       on the writer's lease
//	/graven/condemned/<daemon>/<replica>   bytes still reserved (condemnedRecord) until the daemon confirms
//	/graven/operators/<id>                 what is done by itself, or waits       until it ends, and
//	                                       (operatorRecord)                       OperatorTTL or longer
//	/graven/planner                        paused, limits (plannerRecord)         for ever
//	/graven/election/<lease>               a server's name; the oldest leads      on the server's lease
//	/graven/idem/<key>                     an answer given (idemRecord)           IdempotencyTTL or longer
//	/graven/events/<UUIDv7>                the journal: what happened once        JournalTTL to twice that, and
//	                                       (journalRecord)                        as long as there are few
//
// # Guards
//
// "unchanged" means: has the ModRevision that was read in the same call by a
// linearizable read.
//
//	transaction         compares
//	identity            the key is absent
//	new life            the cluster's record unchanged
//	Register            daemon, live, pool, addresses and what is left of a deletion unchanged; space,
//	                    if it is absent
//	Heartbeat           nothing is written by most; a rewrite of live: live unchanged, and each
//	                    address unchanged that it moves to
//	removal results     condemned and space unchanged
//	Leave               live unchanged, then the lease is revoked
//	mark down           daemon unchanged, live absent; the leader's term
//	SetDraining         daemon unchanged
//	DeleteDaemon        daemon and space unchanged, live absent, nothing condemned on it
//	GiveUpDaemon        daemon unchanged, live absent
//	CreateLog           name absent; per daemon: record, live and space unchanged; the cluster's record
//	                    unchanged; key absent
//	adopt a set         log unchanged; per daemon of a member that comes back: record, live and space
//	                    unchanged; the daemon of a replica that is condemned not given up; the
//	                    cluster's record unchanged
//	OpenLog             log and grant keys unchanged, writer unchanged or absent; the cluster's record
//	                    unchanged; key absent
//	RotateKeys          grant keys unchanged
//	RetireKey           grant keys unchanged
//	let a key sign      grant keys unchanged; no live record is newer than the view in which none
//	                    lacked the key
//	next period         period unchanged
//	Renew               nothing is written, except when the lease was lost: log unchanged, writer absent
//	CloseLog            log and writer unchanged
//	SetReplicas         log unchanged (and with it epoch, nonce and set version); the daemon of a replica
//	                    that is condemned not given up
//	StartReplacement    log unchanged; the learner's daemon: record, live and space unchanged; key absent;
//	                    a planned one: its operator unchanged and the leader's term
//	AbandonReplacement  log unchanged; space and the cluster's record unchanged if the learner's bytes are
//	                    released, else its daemon not given up
//	RecordLogEvent      log unchanged (and with it the writer); key absent
//	DeleteLog           log unchanged, writer absent; per daemon whose bytes are released: space and the
//	                    cluster's record unchanged, per other daemon: not given up
//	CancelOperator      operator unchanged, or as AbandonReplacement
//	operator result     operator unchanged
//	SetOperatorLimits   the planner's record unchanged
//	begin operator      operator unchanged; its daemon and log not deleted; the leader's term
//	queue operator      operator unchanged; the leader's term
//	drop operator       operator unchanged; the leader's term
//	end operator        operator unchanged, or as AbandonReplacement; the leader's term
//
// Whose a log and a daemon ID are is written once, by the transaction that makes the
// record, and compared with the caller in every later one: log and daemon record are
// unchanged there, or what was compared can't change while the record lives.
//
// A comparison that fails is retried a few times from a new read, with jitter,
// and then reported as ErrConflict. A log's name is looked up once a call, so that
// what is decided about one log never hits another that has its name meanwhile.
//
// Each row is played as a race at its transaction's edge, and each comparison
// taken away on its way to etcd, by TestRaces and TestMutation.
//
// # Replacing a replica
//
// A log's record lists its set and at most one learner, which names the replica
// that it replaces and counts for nothing. StartReplacement adds it and reserves
// its bytes. It leaves the list of learners in one of two ways, each one
// transaction: SetReplicas makes it present, takes the replaced one out and
// raises the set version; SetReplicas or AbandonReplacement takes it out itself.
// What leaves the list is condemned, or released if the log was never opened. A
// replica ID is never used again, so a learner that is not in the record can
// never be promoted. The journal's entry is written in the same transaction.
//
// Nothing is written to have a log without a writer recovered: the step for the
// learner's daemon follows from the record and the absent lease.
//
// # Events
//
// etcd's history is the change stream: an event for each daemon, log and operator
// that one of its keys changed, with what the view has of it when the subscriber
// takes it. What follows from a daemon's sign of life, its logs' states and what it
// has to remove, is in no key; those events come with the daemon's, at its revision,
// and are made one by one as they are taken. So all that is kept for a subscriber is
// Options.SubscriberBuffer changes, however much is on a daemon.
//
// # Operators
//
// One server, elected through etcd, plans what is to be done (package planner) and
// begins it; everything that it writes compares the key of its election, so that
// of two which think themselves elected one can't. A replacement's operator is
// written by the transaction that adds the learner, and ended by the one that
// takes it from the list: both records always agree. A recovery or a scrub is
// handed out by whatever server its daemon asks, until the daemon has told what
// came of it. The removal of a condemned replica follows from its key alone.
//
// A daemon that was given up has no books: what is condemned on it is dropped, and
// nothing is condemned there later. The logs go on naming its replicas, as
// unknown, until others have taken their place.
//
// # Journal
//
// An entry is written in the transaction that it tells of, with the principal and
// the origin that the context carries. Creating, opening and deleting a log, the
// steps of a replacement, first registrations, drains, deletions of daemons, changes of the
// grant keys and a new life have one. Refused registrations and heartbeats change
// nothing, so theirs are written apart: the first of a host and sort at once, the
// others counted and written once each RefusalWindow. Every server trims what the
// view shows to be too many: each class of kinds has bounds of its own in entries
// and bytes, so that none pushes out another. The oldest, which go first, are those of
// the lowest revisions.
//
// # Grants
//
// All grant keys are one value, so each change of them is one comparison. A key is
// published, signs, verifies, is retired. It signs from the transaction on in which no
// live daemon lacks it: daemons tell which version of the keys is on their disk, the
// newest is in each answer to one that has told another, and one that registers is
// given them after its live record is written. Only a published and the signing key
// have their private half here.
//
// A grant names the period in which it was made. A server begins the next one when
// it has seen the present one for Options.GrantPeriod by its monotonic clock; several
// of them make one, and none makes them shorter. See docs/grants.md.
//
// # Lives
//
// An etcd that was restored from a backup has forgotten the epochs that it
// handed out since. The first server to see that raises the life, and OpenLog
// hands out no epoch below life·2^40. It shows in one of three ways:
//
//   - by another cluster ID than the one recorded: etcd derives it from its members'
//     peer URLs and from --initial-cluster-token, so restore with a token of its own;
//   - by a lower revision than it has been at before (a copied data folder, or the
//     old token): a linearizable answer is never behind an earlier one;
//   - by a daemon's mark, where no server has run through it. Each answer to a daemon
//     says in which life and how far etcd is, with a proof that only servers can
//     make, and the daemon shows the highest when it registers and in its heartbeats.
//     One that is beyond etcd as it is now ends that life, and no other.
//
// The first two are looked at in every read and write of this package, and once a second.
// What none shows still shows by what the replicas know; their epochs come in as
// min_epoch. A life that one server has begun the others find in the cluster's record,
// which is part of every read; what depends on the life compares it.
//
// With a new life the view is built anew, since its watch would wait for revisions
// that are to come; event streams end with ErrCompacted; and every daemon is
// asked to register again, with all that its pool holds. A log whose record is of
// an earlier life is taken into the present one by its next open: what the record
// calls allocated may have promised something since, so it becomes present, and
// what is not to be found is unknown. A log that had never been opened has no data
// then, and can only be deleted.
//
// Replicas that know a newer set than the log's record say so by their seals, which
// daemons report when they register. OpenLog, StartReplacement and DeleteLog first
// take that set into the record, in a transaction of its own: members that are found
// in one daemon's inventory each, in quarantine, are the log's again, and what the
// newer set does not have is condemned. Who asks has no say in it: a seal is believed
// of a replica that the record names, from the daemon that it names, or of an ack
// quorum of the members themselves. A set whose members are not all found is
// ErrSetBehind, as nobody may go on with the old one.
//
// # Leases
//
// Heartbeats and renewals go over one keep-alive stream per store, so they cost
// etcd no raft write; nothing renews a lease but the one who holds it. A
// writer whose lease was lost (and nobody opened the log since) gets a new one
// with its next Renew, in the same epoch: the lease only keeps others from
// opening the log unasked, the replicas decide who may write.
package store
