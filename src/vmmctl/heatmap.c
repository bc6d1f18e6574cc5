/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mem --heatmap: guest memory as a picture.  Maps follow each other, each from
 * the start of a row; a pixel is a page or, where there are more than a million,
 * a block of them with the mean of their colours.  Hot is what the guest
 * accessed in the second (--working-set) before the picture was taken.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmmctl/pages.h"
#include "vmmctl/picture.h"

#define HEAT_MAXPIXELS (1u << 20)
#define HEAT_MARGIN 8u
#define HEAT_LINE 12u
#define HEAT_MINWIDTH 512u
#define HEAT_BACK 0x202028u
#define HEAT_TEXT 0xe8e8e8u
#define HEAT_RUN 32768ul

enum heat {
	HEAT_ABSENT, HEAT_ZERO, HEAT_SWAPPED, HEAT_COMPRESSED, HEAT_CLEAN,
	HEAT_DIRTY, HEAT_HOT, HEAT_HOTDIRTY, HEAT_WIRED, HEAT_NKIND
};
/* 4 KB leaf or none, and a superpage's. */
static const struct {
	const char *json, *legend;
	uint32_t small, large;
} heat_kinds[HEAT_NKIND] = {
	[HEAT_ABSENT] = { "absent", "ABSENT", 0x000000, 0x000000 },
	[HEAT_ZERO] = { "zero", "ZERO, NO STORAGE", 0x404048, 0x404048 },
	[HEAT_SWAPPED] = { "swapped", "SWAPPED", 0x1f8a4c, 0x1f8a4c },
	[HEAT_COMPRESSED] = { "compressed", "COMPRESSED", 0x20a8a8, 0x20a8a8 },
	[HEAT_CLEAN] = { "resident", "RESIDENT", 0x2f5f9f, 0x7fb2f0 },
	[HEAT_DIRTY] = { "dirty", "DIRTY", 0x7a3a9a, 0xb88ad8 },
	[HEAT_HOT] = { "hot", "HOT", 0xd8a000, 0xffe070 },
	[HEAT_HOTDIRTY] = { "hot_dirty", "HOT AND DIRTY", 0xd03818, 0xff8a60 },
	[HEAT_WIRED] = { "wired", "WIRED", 0xe040a0, 0xffa8dc },
};

struct heatmap {
	struct ctl *ctl;
	struct pages hot;
	struct picture pic;
	unsigned w, h, scale; /* of the map in pixels; squares of a pixel */
	unsigned y;	      /* where the map begins */
	uint64_t block;	      /* pages a pixel */
	double seconds;
	uint64_t count[HEAT_NKIND], large;
};

static enum heat
heat_kind(uint16_t s, bool hot)
{
	if ((s & VMM_PG_WIRED) != 0)
		return HEAT_WIRED;
	if ((s & VMM_PG_SWAPPED) != 0)
		return (s & VMM_PG_COMPRESSED) != 0 ? HEAT_COMPRESSED : HEAT_SWAPPED;
	if ((s & VMM_PG_RESIDENT) == 0)
		return (s & VMM_PG_ZERO) != 0 ? HEAT_ZERO : HEAT_ABSENT;
	if ((s & VMM_PG_DIRTY) != 0)
		return hot ? HEAT_HOTDIRTY : HEAT_DIRTY;
	return hot ? HEAT_HOT : HEAT_CLEAN;
}

/* One map, whose first pixel is in that row. */
static int
heat_map(struct heatmap *hm, unsigned m, unsigned row, uint16_t *s)
{
	const struct vmm_memmap *map = &hm->hot.map[m];
	uint64_t pages = map->len / VMM_PAGE_SIZE, r = 0, g = 0, b = 0, n = 0;

	for (uint64_t i = 0; i < pages; i++) {
		uint64_t at = i % HEAT_RUN, px = i / hm->block;
		enum heat k;
		uint32_t c;
		bool large;
		int error;

		if (at == 0) {
			error = vmm_page_states(hm->ctl->vmm,
			    map->gpa + i * VMM_PAGE_SIZE,
			    pages - i < HEAT_RUN ? pages - i : HEAT_RUN, s);
			if (error != 0)
				return error;
		}
		k = heat_kind(s[at], pages_has(&hm->hot, m, i));
		large = (s[at] & VMM_PG_LARGE) != 0;
		hm->count[k]++;
		hm->large += large;
		c = large ? heat_kinds[k].large : heat_kinds[k].small;
		r += c >> 16;
		g += c >> 8 & 255;
		b += c & 255;
		n++;
		if ((i + 1) % hm->block != 0 && i + 1 != pages)
			continue;
		c = (uint32_t)(r / n << 16 | g / n << 8 | b / n);
		picture_rect(&hm->pic,
		    HEAT_MARGIN + (unsigned)(px % hm->w) * hm->scale,
		    hm->y + (row + (unsigned)(px / hm->w)) * hm->scale, hm->scale,
		    hm->scale, c);
		r = g = b = n = 0;
	}
	return 0;
}

/* Rows of each map, at w pixels a row. */
static unsigned
heat_rows(const struct heatmap *hm, unsigned m)
{
	uint64_t px = (hm->hot.map[m].len / VMM_PAGE_SIZE + hm->block - 1) / hm->block;

	return (unsigned)((px + hm->w - 1) / hm->w);
}

static void
heat_layout(struct heatmap *hm)
{
	uint64_t pages = 0;

	for (unsigned m = 0; m < hm->hot.n; m++)
		pages += hm->hot.map[m].len / VMM_PAGE_SIZE;
	hm->block = 1;
	while (pages / hm->block > HEAT_MAXPIXELS)
		hm->block *= 2;
	hm->w = 64;
	while ((uint64_t)hm->w * hm->w < pages / hm->block)
		hm->w *= 2;
	hm->scale = hm->w < HEAT_MINWIDTH ? HEAT_MINWIDTH / hm->w : 1;
	hm->h = 0;
	for (unsigned m = 0; m < hm->hot.n; m++)
		hm->h += heat_rows(hm, m);
}

static void
heat_legend(struct heatmap *hm, unsigned y)
{
	char line[128], name[VMM_SEGNAME_MAX + 1];
	unsigned row = 0, x = HEAT_MARGIN, wide = 20 * PICTURE_CHAR_W + 40;
	struct picture *p = &hm->pic;

	picture_text(p, x, y, "EACH PAIR: MAPPED BY 4 KB, BY A SUPERPAGE", HEAT_TEXT);
	y += HEAT_LINE;
	for (unsigned k = 0; k < HEAT_NKIND; k++) {
		if (x + wide > p->w) {
			x = HEAT_MARGIN;
			y += HEAT_LINE;
		}
		picture_rect(p, x, y, 26, PICTURE_CHAR_H + 2, 0x606060);
		picture_rect(p, x + 1, y + 1, 12, PICTURE_CHAR_H, heat_kinds[k].small);
		picture_rect(p, x + 13, y + 1, 12, PICTURE_CHAR_H, heat_kinds[k].large);
		picture_text(p, x + 32, y + 1, heat_kinds[k].legend, HEAT_TEXT);
		x += wide;
	}
	for (unsigned m = 0; m < hm->hot.n; m++) {
		y += HEAT_LINE;
		snprintf(line, sizeof(line), "FROM ROW %u: %s AT 0X%lX, %lu MB",
		    row * hm->scale, ctl_segname(hm->ctl, hm->hot.map[m].segid, name),
		    hm->hot.map[m].gpa, hm->hot.map[m].len >> 20);
		picture_text(p, HEAT_MARGIN, y, line, HEAT_TEXT);
		row += heat_rows(hm, m);
	}
}

static int
heat_draw(struct heatmap *hm)
{
	unsigned width = hm->w * hm->scale + 2 * HEAT_MARGIN, row = 0;
	unsigned perline = (width - 2 * HEAT_MARGIN) / (20 * PICTURE_CHAR_W + 40);
	unsigned lines = 2 + (HEAT_NKIND + perline - 1) / perline + hm->hot.n;
	uint16_t *s = malloc(HEAT_RUN * sizeof(*s));
	char line[VMM_NAME_MAX + 128];
	int error = s == NULL ? -ENOMEM : 0;

	hm->y = HEAT_MARGIN + HEAT_LINE;
	if (error == 0)
		error = picture_init(&hm->pic, width, hm->y + hm->h * hm->scale +
		    lines * HEAT_LINE + HEAT_MARGIN, HEAT_BACK);
	if (error != 0) {
		free(s);
		return ctl_fail("--heatmap: no memory for the picture");
	}
	snprintf(line, sizeof(line), "%s: A PIXEL IS %lu KB, HOT: ACCESSED WITHIN %g S",
	    vmm_name(hm->ctl->vmm), hm->block * 4, hm->seconds);
	picture_text(&hm->pic, HEAT_MARGIN, HEAT_MARGIN, line, HEAT_TEXT);
	for (unsigned m = 0; m < hm->hot.n && error == 0; m++) {
		error = heat_map(hm, m, row, s);
		row += heat_rows(hm, m);
	}
	heat_legend(hm, hm->y + hm->h * hm->scale + HEAT_LINE / 2);
	free(s);
	return error;
}

static void
heat_report(struct heatmap *hm)
{
	struct out *o = &hm->ctl->out;

	if (!hm->ctl->json) {
		printf("%s: %ux%u, a pixel is %lu page%s:", hm->ctl->heatmap,
		    hm->pic.w, hm->pic.h, hm->block, hm->block == 1 ? "" : "s");
		for (unsigned k = 0; k < HEAT_NKIND; k++)
			printf("%s %lu %s", k == 0 ? "" : ",", hm->count[k],
			    heat_kinds[k].json);
		printf("; %lu by superpages\n", hm->large);
		return;
	}
	out_begin(o, NULL, '{');
	out_text(o, "file", hm->ctl->heatmap);
	out_number(o, "width", hm->pic.w);
	out_number(o, "height", hm->pic.h);
	out_number(o, "x", HEAT_MARGIN);
	out_number(o, "y", hm->y);
	out_number(o, "pixels_per_row", hm->w);
	out_number(o, "pixel_size", hm->scale);
	out_number(o, "pages_per_pixel", hm->block);
	out_real(o, "seconds", hm->seconds);
	out_begin(o, "pages", '{');
	for (unsigned k = 0; k < HEAT_NKIND; k++)
		out_number(o, heat_kinds[k].json, hm->count[k]);
	out_number(o, "superpage", hm->large);
	out_end(o, '}');
	out_end(o, '}');
	out_finish(o);
}

int
mem_heatmap(struct ctl *ctl)
{
	const char *client = ctl->client != NULL ? ctl->client : "vmmctl";
	struct heatmap hm = { .ctl = ctl, .seconds = 1 };
	uint64_t n;
	int error;

	if (ctl->working_set != NULL &&
	    ctl_number("--working-set", ctl->working_set, 0, 86400, &hm.seconds) != 0)
		return CTL_SAID;
	error = pages_init(&hm.hot, ctl->vmm);
	if (error != 0)
		return error;
	heat_layout(&hm);
	error = vmm_accessed(ctl->vmm, client, NULL, NULL, &n);
	if (error == 0) {
		ctl_sleep(hm.seconds);
		error = vmm_accessed(ctl->vmm, client, pages_add, &hm.hot, &n);
	}
	if (error == 0)
		error = heat_draw(&hm);
	if (error == 0) {
		error = picture_write(&hm.pic, ctl->heatmap);
		if (error == 0)
			heat_report(&hm);
		else
			error = ctl_fail("%s: %s", ctl->heatmap, strerror(-error));
	}
	picture_fini(&hm.pic);
	pages_fini(&hm.hot);
	return error;
}
