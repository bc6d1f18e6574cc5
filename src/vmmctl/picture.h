/* SPDX-License-Identifier: BSD-2-Clause */
/* A picture in memory: rectangles, small capitals, and a PNG file of it. */
#ifndef VMMCTL_PICTURE_H
#define VMMCTL_PICTURE_H

#include <stdint.h>

struct picture {
	unsigned w, h;
	uint8_t *rgb; /* 3 bytes a pixel, row by row */
};

int picture_init(struct picture *p, unsigned w, unsigned h, uint32_t rgb);
void picture_fini(struct picture *p);
void picture_rect(struct picture *p, unsigned x, unsigned y, unsigned w,
    unsigned h, uint32_t rgb);
#define PICTURE_CHAR_W 6
#define PICTURE_CHAR_H 7
/* Letters are drawn as capitals, what is not known as a blank; clipped. */
void picture_text(struct picture *p, unsigned x, unsigned y, const char *s,
    uint32_t rgb);
/* => 0 or -errno */
int picture_write(const struct picture *p, const char *file);

#endif /* VMMCTL_PICTURE_H */
