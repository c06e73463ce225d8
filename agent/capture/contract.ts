import { afterEach, beforeEach, describe, expect, test } from 'bun:test';
import type { Capture, CaptureSettings } from './capture.ts';

/** Settings with something in each list. */
export const SAMPLE_SETTINGS: CaptureSettings = {
  ports: { outbound: 15_001, inbound: 15_006, mesh: 15_008 },
  mark: 0x5049,
  exclude: {
    inboundPorts: [22],
    outboundPorts: [8443],
    outboundAddresses: ['192.0.2.0/24', '192.0.2.7', '2001:db8::/32'],
    users: [33, 34],
  },
  allowUdp: [{ address: '192.0.2.53', port: 53 }],
  localPorts: [80, 5432],
};

/** The suite that each adapter of `Capture` runs, on a host that captures nothing yet. `make` gives the adapter and how to undo the host. */
export function describeCapture(
  adapter: string,
  make: () => Promise<{ readonly capture: Capture; readonly remove: () => Promise<void> }>,
): void {
  describe(`${adapter} as Capture`, () => {
    let capture: Capture;
    let remove: () => Promise<void>;
    beforeEach(async () => ({ capture, remove } = await make()));
    afterEach(() => remove());

    test('isIntact() is false before apply() and true after it', async () => {
      expect(await capture.isIntact()).toBe(false);
      await capture.apply(SAMPLE_SETTINGS);
      expect(await capture.isIntact()).toBe(true);
    });

    test('show() is empty before apply() and names the ports after it', async () => {
      expect(await capture.show()).toBe('');
      await capture.apply(SAMPLE_SETTINGS);
      expect(await capture.show()).toMatch(/\b15001\b/);
    });

    test('apply() twice shows the same as once', async () => {
      await capture.apply(SAMPLE_SETTINGS);
      const once = await capture.show();
      await capture.apply(SAMPLE_SETTINGS);
      expect(await capture.show()).toBe(once);
      expect(await capture.isIntact()).toBe(true);
    });

    test('apply() replaces what the settings no longer ask for', async () => {
      await capture.apply(SAMPLE_SETTINGS);
      await capture.apply({ ...SAMPLE_SETTINGS, localPorts: [80] });
      expect(await capture.show()).not.toMatch(/\b5432\b/);
    });

    test('apply() refuses settings that make no sense and leaves the rules alone', async () => {
      await capture.apply(SAMPLE_SETTINGS);
      const error: unknown = await capture
        .apply({ ...SAMPLE_SETTINGS, localPorts: [0] })
        .catch((error: unknown) => error);
      expect(error).toMatchObject({ code: 'invalid_argument', reason: 'capture_settings_invalid' });
      expect(await capture.isIntact()).toBe(true);
    });

    test('remove() leaves nothing, and nothing to remove is no error', async () => {
      await capture.remove();
      await capture.apply(SAMPLE_SETTINGS);
      await capture.remove();
      expect(await capture.show()).toBe('');
      expect(await capture.isIntact()).toBe(false);
    });
  });
}
