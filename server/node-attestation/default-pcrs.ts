/** The firmware, its configuration, the boot loader and the state of secure boot (TCG PC Client Platform Firmware Profile). */
export const DEFAULT_PCRS: readonly number[] = [0, 1, 2, 3, 4, 5, 6, 7];
