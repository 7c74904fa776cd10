/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
#ifndef DRM_PAGEMAP_TEST_H_
#define DRM_PAGEMAP_TEST_H_

#include <linux/types.h>

struct kunit;

u32 drm_pagemap_test_seed(struct kunit *test);

#endif
