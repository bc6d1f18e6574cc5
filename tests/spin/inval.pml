/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The invalidation protocol of src/pmap (pmap_activate, pmap_walk, pmap_ack,
 * pmap_deactivate, pmap_invalidate), for spin.
 *
 * One page, NV vCPUs, one thread that takes the page away, waits for the
 * acknowledgements and lets somebody else reuse the memory, then maps it
 * again (another host page), twice.  `backing` is the host page that the leaf
 * points at; a vCPU that touches a host page which has been given away
 * violates INV.  Each do-option is one atomic step of the code; statements of
 * C that are separate loads and stores there are separate steps here.
 *
 *   spin -a inval.pml && cc -O2 -o pan pan.c && ./pan -m100000
 * With -DBREAK_ORDER the vCPU reads the generation before it joins; with
 * -DBREAK_ACK the invalidator does not wait: both must be found wrong
 * (tests/spin/inval.sh runs all three).
 */
#ifndef NV
#define NV 2
#endif
#define ROUNDS 2
#define NONE 0

byte leaf = 1;		/* host page in the nested table, 0: not valid */
byte gen = 1;		/* generation of the pmap */
bool inside[NV];	/* pm_active */
byte acked[NV];		/* newest generation each vCPU has flushed for */
bool kicked[NV];	/* exit request */
bool given[4];		/* host page now belongs to somebody else */

proctype vcpu(byte id)
{
	byte tlb = NONE;	/* host page cached by this vCPU */
	byte mine = 0;		/* generation the TLB is good for */
	byte g;
	byte n = 0;

	do
	:: n < 3 ->
		n++;
		/* pmap_activate() */
#ifdef BREAK_ORDER
		g = gen;
		inside[id] = true;
#else
		inside[id] = true;
		g = gen;
#endif
		if
		:: mine != g -> tlb = NONE; mine = g
		:: else
		fi;
		acked[id] = mine;
		/* in the guest */
		do
		:: kicked[id] ->
			/* a poll: look at the generation, flush, acknowledge */
			kicked[id] = false;
			g = gen;
			if
			:: mine != g -> tlb = NONE; mine = g
			:: else
			fi;
			acked[id] = mine
		:: !kicked[id] && tlb == NONE ->
			/* pmap_walk(), then the fill: two steps */
			g = leaf;
			tlb = g;
			if
			:: tlb == NONE -> break	/* nested fault: leave */
			:: else
			fi
		:: !kicked[id] && tlb != NONE ->
			/* an access through the cached translation */
			assert(!given[tlb])
		:: !kicked[id] -> break
		od;
		inside[id] = false	/* pmap_deactivate() */
	:: n >= 3 -> break
	od;
	inside[id] = false
}

proctype invalidator()
{
	byte r = 0;
	byte old, i, want;

	do
	:: r < ROUNDS ->
		old = leaf;
		leaf = NONE;		/* clear the leaf first */
		gen++;			/* then advance the generation */
		want = gen;
		i = 0;
		do
		:: i < NV ->
			if
			:: inside[i] -> kicked[i] = true
			:: else
			fi;
			i++
		:: i >= NV -> break
		od;
#ifndef BREAK_ACK
		i = 0;
		do
		:: i < NV ->
			/* left, or flushed for this generation */
			(!inside[i] || acked[i] >= want);
			i++
		:: i >= NV -> break
		od;
#endif
		given[old] = true;	/* the memory is reused */
		leaf = old + 1;		/* another host page is entered */
		r++
	:: r >= ROUNDS -> break
	od
}

init {
	byte i = 0;
	atomic {
		do
		:: i < NV -> run vcpu(i); i++
		:: i >= NV -> break
		od;
		run invalidator()
	}
}
