package store

// JournalKind is what an entry of the journal is about.
type JournalKind string

// The kinds of entries. The contract says what each means.
const (
	JournalLogCreated           JournalKind = "log-created"
	JournalLogDeleted           JournalKind = "log-deleted"
	JournalLogOpened            JournalKind = "log-opened"
	JournalLogTakenOver         JournalKind = "log-taken-over"
	JournalLogRecovering        JournalKind = "log-recovering"
	JournalLogRecovered         JournalKind = "log-recovered"
	JournalDataLossAccepted     JournalKind = "data-loss-accepted"
	JournalReplacementStarted   JournalKind = "replacement-started"
	JournalReplacementDone      JournalKind = "replacement-done"
	JournalReplacementAbandoned JournalKind = "replacement-abandoned"
	JournalDaemonRegistered     JournalKind = "daemon-registered"
	JournalDaemonRefused        JournalKind = "daemon-refused"
	JournalDaemonDraining       JournalKind = "daemon-draining"
	JournalDaemonUndrained      JournalKind = "daemon-undrained"
	JournalDaemonDeleted        JournalKind = "daemon-deleted"
	JournalDaemonLost           JournalKind = "daemon-lost"
	JournalOperatorsPaused      JournalKind = "operators-paused"
	JournalOperatorsResumed     JournalKind = "operators-resumed"
	JournalOperatorLimits       JournalKind = "operator-limits"
	JournalOperatorCancelled    JournalKind = "operator-cancelled"
	JournalGrantKeyRotated      JournalKind = "grant-key-rotated"
	JournalSetAdopted           JournalKind = "set-adopted"
	JournalEtcdRestored         JournalKind = "etcd-restored"
)

// journalClass is a sort of entries with a bound of its own: what comes often
// does not push out what comes seldom.
type journalClass int

const (
	classRare    journalClass = iota // what people decided, and what went wrong
	classRoutine                     // what a busy cluster does all day
	classRefused                     // what a peer can bring about without any right
	classes
)

func (k JournalKind) class() journalClass {
	switch k {
	case JournalDaemonRefused:
		return classRefused
	case JournalLogCreated, JournalLogDeleted, JournalLogOpened, JournalLogRecovering, JournalLogRecovered, JournalDaemonRegistered:
		return classRoutine
	}
	return classRare
}

// journalEntryBytes is what an entry may take on average before the bound in
// bytes is felt.
const journalEntryBytes = 1 << 10

// journalBounds are the most entries and bytes of a class.
func (s *Store) journalBounds(c journalClass) (entries, bytes int) {
	entries = s.opts.JournalEntries
	if c == classRefused {
		entries = max(1, entries/4)
	}
	return entries, entries * journalEntryBytes
}
