/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How a page comes to hold translated code (src/engine/soft/tlb.c, cache.c:
 * tlb_may_write, soft_claim, tlb_claim_sync, soft_enter, cache_page_write),
 * for spin.
 *
 * One page, NV vCPUs.  Each fills its TLB for writing, stores through it,
 * claims the page and translates, writes to it by the executor, reads the log
 * of claims, leaves the guest and enters it.  A store through the TLB while a
 * translation of the page exists violates CODE: nobody would drop it.
 *
 * With -DBREAK_FILL the fill looks at the code bit before it says that it may
 * write; with -DBREAK_LOCK the claim does not look at the code bit under the
 * lock; with -DBREAK_CHECK the translation looks at nothing but that bit: all
 * must be found wrong (inval.sh).
 */
#ifndef NV
#define NV 2
#endif
#if NV == 3		/* one that writes, two that translate */
#define TURNS 2
#define MAY_FILL (id == 0)
#define MAY_CLAIM (id != 0)
#else
#define TURNS 3
#define MAY_FILL true
#define MAY_CLAIM true
#endif

bool code;		/* the page's bit */
bool block;		/* a translation exists */
bool writer[NV];	/* the word, lower half */
bool told[NV];		/* its upper half */
byte claims;		/* length of the log */
byte seen[NV];
bool inside[NV];	/* in_guest */
bool lock;		/* cache->lock */

#define SYNC \
	if \
	:: seen[id] != claims -> \
		h = claims; w = false; \
		d_step { writer[id] = false; told[id] = false }; \
		seen[id] = h \
	:: else \
	fi

proctype vcpu(byte id)
{
	byte o = (id == 0 -> 1 : 0);
	byte n = 0;
	byte h, claim;
	bool w;		/* tag_w is valid */
	bool wo, to, post;

	inside[id] = true;
	SYNC;
	do
	:: n < TURNS && !w && MAY_FILL -> /* fill for writing */
		n++;
#ifdef BREAK_FILL
		if
		:: !code -> d_step { writer[id] = true; told[id] = false }; w = true
		:: else
		fi
#else
		if
		:: code
		:: else ->
			d_step { writer[id] = true; told[id] = false };
			if
			:: code
			:: else -> w = true
			fi
		fi
#endif
	:: w -> /* the check has hit; then the store */
		assert(!block);
		if
		:: true
		:: n < TURNS -> n++; w = false /* evicted */
		fi
	:: n < TURNS && MAY_CLAIM -> /* claim and translate */
		n++;
		code = true;
		d_step { wo = writer[o]; to = told[o]; post = writer[id] };
		if
		:: post -> w = false; d_step { writer[id] = false; told[id] = false }
		:: else
		fi;
		claim = 0;
		if
		:: wo && !to ->
			atomic { !lock -> lock = true };
			if
#ifndef BREAK_LOCK
			:: !code -> wo = false
			:: code ->
#else
			:: true ->
#endif
				claims++;
				claim = claims;
				told[o] = true
			fi;
			lock = false
		:: wo && to ->
			claim = claims
		:: else
		fi;
		if
		:: wo ->
			do
			:: !inside[o] -> break
			:: seen[o] >= claim -> break
			:: seen[id] != claims -> SYNC
			od
		:: else
		fi;
		atomic { !lock -> lock = true };
		/* soft_claimed() */
		if
		:: !code /* written to meanwhile */
		:: code ->
#ifndef BREAK_CHECK
			if
			:: !writer[o] -> block = true
			:: writer[o] && !told[o]
			:: writer[o] && told[o] ->
				if
				:: !inside[o] -> block = true
				:: seen[o] == claims -> block = true
				:: else
				fi
			fi
#else
			block = true
#endif
		fi;
		lock = false
	:: n < TURNS && code -> /* the executor writes, and drops the blocks */
		n++;
		atomic { !lock -> lock = true };
		block = false;
		code = false;
		lock = false
	:: SYNC /* a kick */
	:: n < TURNS -> /* leave, enter */
		n++;
		inside[id] = false;
		inside[id] = true;
		SYNC
	:: n == TURNS -> break
	od;
	inside[id] = false
}

init {
	atomic {
		run vcpu(0);
		run vcpu(1);
#if NV == 3
		run vcpu(2)
#endif
	}
}
