package memstore

import (
	"container/list"
	"math/bits"
	"sync/atomic"
)

// account counts what one subject's tasks hold. It is kept while refs counts a task or a
// create that is under way.
type account struct {
	tasks, bytes atomic.Int64

	// usage.mu guards what follows.
	owner    string
	refs     int
	finished list.List // of *entry, in the order in which they ended
	class    int       // the size class of bytes when it was last looked at
	listed   *list.Element
}

// sizeClass returns the class of accounts that hold about as many bytes, within a factor
// of two.
func sizeClass(bytes int64) int { return bits.Len64(uint64(max(bytes, 0))) }

// scanAccounts bounds how many accounts of a size class are compared for one
// eviction.
const scanAccounts = 16

// hold returns the account of owner. The caller lets go of it with drop.
func (u *usage) hold(owner string) *account {
	u.mu.Lock()
	defer u.mu.Unlock()
	a := u.accounts[owner]
	if a == nil {
		a = &account{owner: owner}
		if u.accounts == nil {
			u.accounts = map[string]*account{}
		}
		u.accounts[owner] = a
	}
	a.refs++
	return a
}

func (u *usage) drop(a *account) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if a.refs--; a.refs == 0 {
		delete(u.accounts, a.owner)
	}
}

// grow adds n bytes to an account and to the whole. n may be negative.
func (u *usage) grow(a *account, n int64) {
	u.bytes.Add(n)
	u.grew(a, a.bytes.Add(n)-n)
}

// grew moves an account to its new size class, if that has changed. before is what it
// held before.
func (u *usage) grew(a *account, before int64) {
	if sizeClass(before) == sizeClass(a.bytes.Load()) {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	class := sizeClass(a.bytes.Load())
	if a.listed != nil && class != a.class {
		u.classes[a.class].Remove(a.listed)
		a.listed = u.classes[class].PushBack(a)
	}
	a.class = class
}

// list adds an entry that ended to those that may be evicted.
func (u *usage) list(e *entry) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if e.place != nil {
		return
	}
	a := e.account
	e.place = a.finished.PushBack(e)
	if a.listed == nil {
		a.listed = u.classes[a.class].PushBack(a)
	}
}

func (u *usage) unlist(e *entry) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if e.place == nil {
		return
	}
	a := e.account
	a.finished.Remove(e.place)
	e.place = nil
	if a.finished.Len() == 0 {
		u.classes[a.class].Remove(a.listed)
		a.listed = nil
	}
}

// next returns the entry to evict first: of the accounts that hold most, within a
// factor of two, the task that ended first. It never returns spare, and nil if there
// is no other.
func (u *usage) next(spare *entry) *entry {
	u.mu.Lock()
	defer u.mu.Unlock()
	for class := len(u.classes) - 1; class >= 0; class-- {
		accounts := &u.classes[class]
		var first *entry
		for el, n := accounts.Front(), 0; el != nil && (n < scanAccounts || first == nil); el, n = el.Next(), n+1 {
			if e := el.Value.(*account).next(spare); e != nil && (first == nil || e.ended.Before(first.ended)) {
				first = e
			}
		}
		if first != nil {
			accounts.MoveToBack(first.account.listed)
			return first
		}
	}
	return nil
}

// nextOf is next among the tasks of one account.
func (u *usage) nextOf(a *account, spare *entry) *entry {
	u.mu.Lock()
	defer u.mu.Unlock()
	return a.next(spare)
}

// next returns the account's task that ended first and is not spare.
func (a *account) next(spare *entry) *entry {
	for el := a.finished.Front(); el != nil; el = el.Next() {
		if e := el.Value.(*entry); e != spare {
			return e
		}
	}
	return nil
}
