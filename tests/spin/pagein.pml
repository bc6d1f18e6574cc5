/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Page-in with no lock held (src/vm/vm_fault.c: vm_fault_pagein, vm_fault_io),
 * for spin: one page of one object, in swap at first.
 *
 * NV vCPUs fault on it; one of them, who finds it swapped and not busy, makes
 * it busy and reads it, and the others wait.  Page-out takes it away again
 * while it is resident; a discard frees its slot, which somebody else's page
 * then takes (`slot` counts the contents of the place on disk: 1 is the page's
 * own).  A read may fail.  Steps between acquire and release of the family's
 * lock are those of the code; everything outside may interleave.
 *
 * Wrong would be: contents of a foreign slot or half a read in the guest's
 * hands, two readers at once, and a vCPU that waits for ever (spin's invalid
 * end states).  tests/spin/inval.sh breaks one rule at a time:
 *   BREAK_BUSY: who faults does not look whether somebody reads already;
 *   BREAK_DISCARD: the discard does not wait for the reader;
 *   BREAK_WAKE: a read that failed wakes nobody.
 */
#ifndef NV
#define NV 2
#endif
#define SWAPPED 0
#define RESIDENT 1
#define ZERO 2

bool lock;		/* the family's */
byte state = SWAPPED;
bool busy;
byte readers;		/* reads under way into the page's memory */
byte asleep, wakes;	/* on the family's condition */
byte mem;		/* contents of the page's memory: 0 zeros, 1 its own, 9 junk */
byte slot = 1;		/* contents of its slot on disk; 9: given to another page */
byte right = 1;		/* what the guest must see */

#define ACQUIRE atomic { !lock; lock = true }
#define RELEASE lock = false
/* One step frees the lock and sleeps; who is woken takes the lock again. */
#define WAIT \
	atomic { asleep++; lock = false }; \
	atomic { wakes > 0 && !lock; wakes--; lock = true }
#define BROADCAST atomic { wakes = wakes + asleep; asleep = 0 }

proctype vcpu()
{
	byte tries = 0;
	byte data;
	bool failed;

again:
	ACQUIRE;
	do
	:: state == SWAPPED && busy -> 
#ifdef BREAK_BUSY
		break
#else
		WAIT
#endif
	:: else -> break
	od;
	if
	:: state == SWAPPED ->
		busy = true;
		RELEASE;
		/* the read, with no lock: it fills the memory bit by bit */
		readers++;
		assert(readers == 1);
		mem = 9;
		data = slot;
		failed = false;
		if
		:: tries == 0 -> failed = true	/* an error, at most once each */
		:: mem = data
		fi;
		readers--;
		tries = 1;
		ACQUIRE;
		busy = false;
		if
		:: !failed -> state = RESIDENT
		:: else
		fi;
#ifdef BREAK_WAKE
		if
		:: !failed -> BROADCAST
		:: else
		fi;
#else
		BROADCAST;
#endif
		RELEASE;
		goto again	/* all is looked up again, or tried again */
	:: state == ZERO ->
		mem = 0;
		state = RESIDENT
	:: state == RESIDENT
	fi;
	/* entered into the tables, under the lock: what the guest sees */
	assert(mem == right);
	RELEASE
}

proctype pageout()
{
	ACQUIRE;
	if
	:: state == RESIDENT ->
		assert(mem == right);
		slot = mem;
		mem = 9;	/* the host has it back */
		state = SWAPPED
	:: else
	fi;
	RELEASE
}

proctype discard()
{
	ACQUIRE;
#ifndef BREAK_DISCARD
	do
	:: busy -> WAIT
	:: else -> break
	od;
#endif
	right = 0;
	slot = 9;		/* free, and soon another page's */
	mem = 0;
	state = ZERO;
	RELEASE
}

init {
	byte i = 0;

	atomic {
		do
		:: i < NV -> run vcpu(); i++
		:: i >= NV -> break
		od;
		run pageout();
		run discard()
	}
}
