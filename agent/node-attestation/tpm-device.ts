/**
 * A TPM 2.0 that takes whole commands. Port: `tpm-character-device.ts` (the kernel's /dev/tpmrm0), `tpm-socket-device.ts` (swtpm).
 */
export interface TpmDevice {
  /**
   * Sends one command and returns its whole response, at most 4,096 bytes. One command at a time. Throws `unavailable`, reason
   * `tpm_unreachable`, or `deadline_exceeded`, reason `tpm_timeout`; after either the device is closed.
   */
  transmit(command: Uint8Array): Promise<Uint8Array>;
  /** Whether somebody else keeps our objects apart from those of other programs, and flushes them when we are gone. */
  readonly hasResourceManager: boolean;
  /** Ends the connection; safe to call again. */
  close(): Promise<void>;
}
