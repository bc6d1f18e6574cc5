/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The two 8259A interrupt controllers and their edge/level registers.
 *
 * The pair's output goes to LINT0 of the local APICs; a vCPU whose LINT0 is an
 * unmasked ExtINT (or whose local APIC is off) takes the vector from here.
 * Nothing is delivered until software has unmasked a line.
 *
 * PIC-1: master.irr bit 2 is exactly "the slave has something to say"; the
 *	cascade is not an edge that could be lost.
 * PIC-2: p->pic.out is exactly "the master has something to say"; vCPUs look
 *	at it without the lock, and ask again under it.
 *
 * Source: Intel 8259A data sheet; ELCR: PIIX3 data sheet.
 */
#include "platform/platform_int.h"

#define PIC_CASCADE 2

/* Place of the first bit of m in the order of priority; 8: none. */
static unsigned
pic_first(const struct pic_chip *c, uint8_t m)
{
	for (unsigned i = 0; i < 8; i++)
		if ((m & 1u << ((c->top + i) & 7)) != 0)
			return i;
	return 8;
}

/* => the line that asks and may interrupt what is in service, or -1 */
static int
pic_asks(const struct pic_chip *c, bool master)
{
	uint8_t isr = c->isr;
	unsigned want = pic_first(c, c->irr & (uint8_t)~c->imr);

	if (c->special_mask)
		isr &= (uint8_t)~c->imr;
	/* fully nested: the slave's next may come before its last ends */
	if (c->nested && master)
		isr &= (uint8_t)~(1u << PIC_CASCADE);
	return want < pic_first(c, isr) ? (int)((c->top + want) & 7) : -1;
}

static void
pic_update(struct platform *p) LOCK_REQUIRES(&p->pic.lock)
{
	struct pic_chip *m = &p->pic.chip[0];
	bool out;

	if (pic_asks(&p->pic.chip[1], false) >= 0)
		m->irr |= 1u << PIC_CASCADE;
	else
		m->irr &= (uint8_t)~(1u << PIC_CASCADE);
	out = pic_asks(m, true) >= 0;
	if (atomic_exchange(&p->pic.out, out) == out || !out)
		return;
	for (unsigned i = 0; i < p->cfg.ncpu; i++)
		if (lapic_takes_extint(&p->lapic[i]))
			p->cb.notify(p->cfg.arg, i);
}

static void
pic_take(struct pic_chip *c, unsigned n)
{
	if (!c->auto_eoi)
		c->isr |= (uint8_t)(1u << n);
	else if (c->rotate_auto)
		c->top = (n + 1) & 7;
	if ((c->elcr & 1u << n) == 0)
		c->irr &= (uint8_t)~(1u << n);
}

/* The acknowledge cycle.  => vector; a request that went away gives line 7 */
int
pic_accept(struct platform *p)
{
	struct pic_chip *m = &p->pic.chip[0], *s = &p->pic.chip[1];
	int n, vector;

	lock_acquire(&p->pic.lock);
	n = pic_asks(m, true);
	if (n < 0) {
		lock_release(&p->pic.lock);
		return -1;
	}
	pic_take(m, (unsigned)n);
	vector = m->base | n;
	if (n == PIC_CASCADE) {
		n = pic_asks(s, false);
		if (n >= 0)
			pic_take(s, (unsigned)n);
		vector = s->base | (n < 0 ? 7 : n);
	}
	pic_update(p);
	lock_release(&p->pic.lock);
	return vector;
}

void
pic_set(struct platform *p, unsigned irq, bool level)
{
	struct pic_chip *c = &p->pic.chip[irq / 8 & 1];
	uint8_t bit = (uint8_t)(1u << irq % 8);

	lock_acquire(&p->pic.lock);
	if (level && ((c->line & bit) == 0 || (c->elcr & bit) != 0))
		c->irr |= bit;
	else if (!level && (c->elcr & bit) != 0)
		c->irr &= (uint8_t)~bit;
	c->line = level ? c->line | bit : c->line & (uint8_t)~bit;
	pic_update(p);
	lock_release(&p->pic.lock);
}

static void
pic_command(struct pic_chip *c, uint8_t v)
{
	unsigned n = v & 7, first;

	if ((v & 0x10) != 0) { /* ICW1 */
		*c = (struct pic_chip){ .elcr = c->elcr, .line = c->line,
			.irr = c->line & c->elcr, .base = c->base,
			.state = 1, .single = (v & 2) != 0, .icw4 = (v & 1) != 0 };
		return;
	}
	if ((v & 8) != 0) { /* OCW3 */
		c->poll = (v & 4) != 0;
		if ((v & 2) != 0)
			c->read_isr = (v & 1) != 0;
		if ((v & 0x40) != 0)
			c->special_mask = (v & 0x20) != 0;
		return;
	}
	switch (v >> 5) {
	case 0: c->rotate_auto = false; break;
	case 4: c->rotate_auto = true; break;
	case 1: case 5: /* end of the highest in service */
		first = pic_first(c, c->isr & (c->special_mask ? (uint8_t)~c->imr : 0xff));
		if (first == 8)
			break;
		n = (c->top + first) & 7;
		__attribute__((fallthrough));
	case 3: case 7:
		c->isr &= (uint8_t)~(1u << n);
		if (v >> 7 != 0)
			c->top = (n + 1) & 7;
		break;
	case 6: c->top = (n + 1) & 7; break;
	default: break;
	}
}

static void
pic_data(struct pic_chip *c, uint8_t v)
{
	switch (c->state) {
	case 0: c->imr = v; return;
	case 1:
		c->base = v & 0xf8;
		c->state = c->single ? (c->icw4 ? 3 : 0) : 2;
		return;
	case 2: c->state = c->icw4 ? 3 : 0; return; /* wired as in a PC */
	default:
		c->auto_eoi = (v & 2) != 0;
		c->nested = (v & 0x10) != 0;
		c->state = 0;
	}
}

static uint8_t
pic_read(struct pic_chip *c, bool data, bool master)
{
	int n;

	if (c->poll) { /* stands for an acknowledge */
		c->poll = false;
		n = pic_asks(c, master);
		if (n < 0)
			return 0;
		pic_take(c, (unsigned)n);
		return (uint8_t)(0x80 | n);
	}
	return data ? c->imr : c->read_isr ? c->isr : c->irr;
}

void
pic_pio(struct platform *p, uint16_t port, bool in, uint8_t *vp)
{
	struct pic_chip *c;

	lock_acquire(&p->pic.lock);
	if (port >= 0x4d0) {
		c = &p->pic.chip[port & 1];
		if (in)
			*vp = c->elcr;
		else
			c->elcr = *vp & (port == 0x4d0 ? 0xf8 : 0xde);
	} else {
		c = &p->pic.chip[port >= 0xa0];
		if (in)
			*vp = pic_read(c, port & 1, port < 0xa0);
		else if ((port & 1) != 0)
			pic_data(c, *vp);
		else
			pic_command(c, *vp);
	}
	pic_update(p);
	lock_release(&p->pic.lock);
}

void
pic_reset(struct platform *p)
{
	lock_acquire(&p->pic.lock);
	for (unsigned i = 0; i < 2; i++)
		p->pic.chip[i] = (struct pic_chip){ .imr = 0xff,
			.line = p->pic.chip[i].line,
			/* as firmware leaves it: the SCI is a level */
			.elcr = i == PLATFORM_SCI / 8 ? 1u << PLATFORM_SCI % 8 : 0 };
	pic_update(p);
	lock_release(&p->pic.lock);
}
