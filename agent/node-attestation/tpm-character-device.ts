import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { MAX_TPM_MESSAGE_BYTES } from '../../shared/wire/tpm2-command.ts';
import { tpmTimeout, tpmUnreachable } from './tpm-device-error.ts';
import type { TpmDevice } from './tpm-device.ts';

/** Opens a TPM character device: one write takes a whole command, one read gives its whole response. Only its owner may be speaking. */
export async function openTpmCharacterDevice(
  path: string,
  { timeoutMs }: { readonly timeoutMs: number },
): Promise<TpmDevice> {
  try {
    const file = await open(path, constants.O_RDWR);
    return new TpmCharacterDevice(file, { path, timeoutMs });
  } catch (error) {
    throw tpmUnreachable(`${path} does not open`, error);
  }
}

class TpmCharacterDevice implements TpmDevice {
  /** The kernel manages the objects of /dev/tpmrm0; those of /dev/tpm0 are shared with everybody, so there as well ours alone are flushed. */
  readonly hasResourceManager = true;
  readonly #file: FileHandle;
  readonly #path: string;
  readonly #timeoutMs: number;
  #isClosed = false;

  constructor(file: FileHandle, { path, timeoutMs }: { readonly path: string; readonly timeoutMs: number }) {
    this.#file = file;
    this.#path = path;
    this.#timeoutMs = timeoutMs;
  }

  async transmit(command: Uint8Array): Promise<Uint8Array> {
    if (this.#isClosed) throw tpmUnreachable(`${this.#path} is closed`);
    const { promise: expired, reject } = Promise.withResolvers<never>();
    const timer = setTimeout(() => reject(tpmTimeout(this.#timeoutMs)), this.#timeoutMs);
    try {
      return await Promise.race([this.#exchange(command), expired]);
    } catch (error) {
      // The response may still come and would be taken for the next command's.
      void this.close();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    await this.#file.close();
  }

  async #exchange(command: Uint8Array): Promise<Uint8Array> {
    try {
      const { bytesWritten } = await this.#file.write(command, 0, command.length, null);
      if (bytesWritten !== command.length) throw tpmUnreachable(`${this.#path} took a part of the command`);
      const response = Buffer.alloc(MAX_TPM_MESSAGE_BYTES);
      const { bytesRead } = await this.#file.read(response, 0, response.length, null);
      return response.subarray(0, bytesRead);
    } catch (error) {
      throw tpmUnreachable(`${this.#path} failed`, error);
    }
  }
}
