// SPDX-License-Identifier: GPL-2.0-only
/**
 * DOC: vsvm (virtual GPU with shared virtual memory)
 *
 * A GPU made of software, in the spirit of vkms.  Each device has a pool of
 * device-private memory, which the CPU cannot address, or of coherent memory, if
 * the parameter "coherent" says where, and takes pages of a
 * process into it, a page table, and an engine that executes simple operations
 * on addresses of the process.  Everything in between is what a driver of real
 * hardware does with DRM pagemap and GPU SVM.
 *
 * ``modprobe vsvm devices=2 vram_mb=16`` makes two platform devices, vsvm.0 and
 * vsvm.1, each a DRM render node.  Unbinding one from the driver in sysfs is
 * the hot-unplug of a GPU; binding it again starts over with empty memory.
 */

#include <linux/debugfs.h>
#include <linux/dma-mapping.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/rcupdate.h>

#include <drm/drm_debugfs.h>
#include <drm/drm_drv.h>
#include <drm/drm_file.h>
#include <drm/drm_gem.h>
#include <drm/drm_ioctl.h>
#include <drm/drm_print.h>
#include <uapi/drm/vsvm_drm.h>

#include "vsvm_drv.h"

#define DRIVER_NAME	"vsvm"
#define DRIVER_DESC	"Virtual GPU with shared virtual memory"
#define DRIVER_DATE	"20261121"
#define DRIVER_MAJOR	1
#define DRIVER_MINOR	0

static unsigned int devices = 1;
module_param(devices, uint, 0444);
MODULE_PARM_DESC(devices, "Number of devices (1 to 16, default 1)");

static unsigned int vram_mb = 64;
module_param(vram_mb, uint, 0444);
MODULE_PARM_DESC(vram_mb, "Memory of each device in MiB (1 to 4096, with on_demand 65536, default 64)");

static bool on_demand;
module_param(on_demand, bool, 0444);
MODULE_PARM_DESC(on_demand, "Make memory and its struct pages when they are used (default off)");

static struct platform_device *vsvm_pdevs[VSVM_MAX_DEVICES];

static int vsvm_open(struct drm_device *drm, struct drm_file *file)
{
	struct vsvm_client *client;

	client = vsvm_client_create();
	if (!client)
		return -ENOMEM;

	file->driver_priv = client;
	return 0;
}

static void vsvm_postclose(struct drm_device *drm, struct drm_file *file)
{
	struct vsvm_client *client = file->driver_priv;

	vsvm_vm_destroy_all(client);
	vsvm_client_put(client);
}

static void vsvm_show_fdinfo(struct drm_printer *p, struct drm_file *file)
{
	struct vsvm_device *vdev = to_vsvm(file->minor->dev);
	struct vsvm_client *client = file->driver_priv;
	struct drm_memory_stats stats = {};

	vsvm_mem_stats(vdev, client, &stats);
	drm_print_memory_stats(p, &stats, DRM_GEM_OBJECT_RESIDENT, "vram");
	drm_printf(p, "vsvm-gpu-faults:\t%lld\n",
		   atomic64_read(&client->gpu_faults));
	drm_printf(p, "vsvm-jobs:\t%lld\n", atomic64_read(&client->jobs));
}

static const struct drm_ioctl_desc vsvm_ioctls[] = {
	DRM_IOCTL_DEF_DRV(VSVM_QUERY, vsvm_query_ioctl, DRM_RENDER_ALLOW),
	DRM_IOCTL_DEF_DRV(VSVM_STATS, vsvm_stats_ioctl, DRM_RENDER_ALLOW),
	DRM_IOCTL_DEF_DRV(VSVM_VM_CREATE, vsvm_vm_create_ioctl, DRM_RENDER_ALLOW),
	DRM_IOCTL_DEF_DRV(VSVM_VM_DESTROY, vsvm_vm_destroy_ioctl, DRM_RENDER_ALLOW),
	DRM_IOCTL_DEF_DRV(VSVM_PREFETCH, vsvm_prefetch_ioctl, DRM_RENDER_ALLOW),
	DRM_IOCTL_DEF_DRV(VSVM_RESIDENCY, vsvm_residency_ioctl, DRM_RENDER_ALLOW),
	DRM_IOCTL_DEF_DRV(VSVM_ADVISE, vsvm_advise_ioctl, DRM_RENDER_ALLOW),
	DRM_IOCTL_DEF_DRV(VSVM_EXEC, vsvm_exec_ioctl, DRM_RENDER_ALLOW),
	DRM_IOCTL_DEF_DRV(VSVM_JOB_STATUS, vsvm_job_status_ioctl, DRM_RENDER_ALLOW),
};

static const struct file_operations vsvm_fops = {
	.owner = THIS_MODULE,
	.open = drm_open,
	.release = drm_release,
	.unlocked_ioctl = drm_ioctl,
	.compat_ioctl = drm_compat_ioctl,
	.poll = drm_poll,
	.read = drm_read,
	.llseek = noop_llseek,
	.show_fdinfo = drm_show_fdinfo,
	.fop_flags = FOP_UNSIGNED_OFFSET,
};

/* Written with the pfn of a device page, has it break as memory may. */
static int vsvm_memory_failure_set(void *data, u64 pfn)
{
	struct vsvm_device *vdev = data;
	int ret, idx;

	if (!drm_dev_enter(&vdev->drm, &idx))
		return -ENODEV;
	ret = vsvm_mem_fail(vdev, pfn);
	drm_dev_exit(idx);
	return ret;
}
DEFINE_DEBUGFS_ATTRIBUTE(vsvm_memory_failure_fops, NULL,
			 vsvm_memory_failure_set, "%llu\n");

static const struct drm_driver vsvm_driver = {
	.driver_features = DRIVER_RENDER | DRIVER_SYNCOBJ |
			   DRIVER_SYNCOBJ_TIMELINE,
	.open = vsvm_open,
	.postclose = vsvm_postclose,
	.show_fdinfo = vsvm_show_fdinfo,
	.ioctls = vsvm_ioctls,
	.num_ioctls = ARRAY_SIZE(vsvm_ioctls),
	.fops = &vsvm_fops,
	.name = DRIVER_NAME,
	.desc = DRIVER_DESC,
	.date = DRIVER_DATE,
	.major = DRIVER_MAJOR,
	.minor = DRIVER_MINOR,
};

static int vsvm_pool_show(struct seq_file *m, void *data)
{
	struct drm_debugfs_entry *entry = m->private;
	struct drm_printer p = drm_seq_file_printer(m);

	vsvm_mem_print(to_vsvm(entry->dev), &p);
	return 0;
}

static int vsvm_vms_show(struct seq_file *m, void *data)
{
	struct drm_debugfs_entry *entry = m->private;
	struct drm_printer p = drm_seq_file_printer(m);

	vsvm_vm_print_all(to_vsvm(entry->dev), &p);
	return 0;
}

static const struct drm_debugfs_info vsvm_debugfs[] = {
	{ "vsvm-pool", vsvm_pool_show, 0 },
	{ "vsvm-vms", vsvm_vms_show, 0 },
};

static int vsvm_probe(struct platform_device *pdev)
{
	struct device *dev = &pdev->dev;
	struct vsvm_device *vdev;
	int ret;

	if (pdev->id < 0 || pdev->id >= VSVM_MAX_DEVICES)
		return -ENODEV;

	/* No address is out of reach of software. */
	ret = dma_coerce_mask_and_coherent(dev, DMA_BIT_MASK(64));
	if (ret)
		return ret;

	vdev = devm_drm_dev_alloc(dev, &vsvm_driver, struct vsvm_device, drm);
	if (IS_ERR(vdev))
		return PTR_ERR(vdev);
	vdev->index = pdev->id;
	vdev->coherent = vsvm_coherent(pdev->id);
	spin_lock_init(&vdev->vms_lock);
	INIT_LIST_HEAD(&vdev->vms);
	platform_set_drvdata(pdev, vdev);

	ret = vsvm_mem_init(vdev, (u64)vram_mb * SZ_1M, on_demand);
	if (ret)
		return ret;

	drm_debugfs_add_files(&vdev->drm, vsvm_debugfs,
			      ARRAY_SIZE(vsvm_debugfs));
	debugfs_create_file_unsafe("vsvm-memory-failure", 0200,
				   vdev->drm.debugfs_root, vdev,
				   &vsvm_memory_failure_fops);

	return drm_dev_register(&vdev->drm, 0);
}

static void vsvm_remove(struct platform_device *pdev)
{
	struct vsvm_device *vdev = platform_get_drvdata(pdev);

	/* The order matters, see "Life times". */
	drm_dev_unplug(&vdev->drm);
	vsvm_vm_detach_all(vdev);
	drm_pagemap_region_unplug(vdev->region);
}

static struct platform_driver vsvm_platform_driver = {
	.probe = vsvm_probe,
	.remove = vsvm_remove,
	.driver = {
		.name = DRIVER_NAME,
	},
};

static void vsvm_remove_devices(void)
{
	unsigned int i;

	for (i = 0; i < VSVM_MAX_DEVICES; i++) {
		platform_device_unregister(vsvm_pdevs[i]);
		vsvm_pdevs[i] = NULL;
	}
}

static int vsvm_add_devices(void)
{
	struct platform_device *pdev;
	unsigned int i;

	for (i = 0; i < devices; i++) {
		pdev = platform_device_register_simple(DRIVER_NAME, i, NULL, 0);
		if (IS_ERR(pdev)) {
			vsvm_remove_devices();
			return PTR_ERR(pdev);
		}
		vsvm_pdevs[i] = pdev;
	}
	return 0;
}

static int __init vsvm_init(void)
{
	unsigned int max_mb = on_demand ? VSVM_MAX_DEMAND_MB : VSVM_MAX_VRAM_MB;
	int ret;

	if (!devices || devices > VSVM_MAX_DEVICES ||
	    !vram_mb || vram_mb > max_mb) {
		pr_err("%s: devices= or vram_mb= out of range\n", DRIVER_NAME);
		return -EINVAL;
	}

	ret = vsvm_clients_init();
	if (ret)
		return ret;
	ret = platform_driver_register(&vsvm_platform_driver);
	if (ret)
		goto err_clients;
	ret = vsvm_add_devices();
	if (ret)
		goto err_driver;
	return 0;

err_driver:
	platform_driver_unregister(&vsvm_platform_driver);
err_clients:
	vsvm_clients_exit();
	return ret;
}

static void __exit vsvm_exit(void)
{
	vsvm_remove_devices();
	platform_driver_unregister(&vsvm_platform_driver);
	vsvm_clients_exit();

	/*
	 * The last fence has let go of the module, but whoever released it may
	 * have been preempted before the return from the function that did so.
	 */
	synchronize_rcu_tasks();
}

module_init(vsvm_init);
module_exit(vsvm_exit);

MODULE_DESCRIPTION(DRIVER_DESC);
MODULE_LICENSE("GPL");
