import { connect, type Socket } from 'node:net';
import { readTpmMessageSize, TPM_HEADER_BYTES } from '../../shared/wire/tpm2-command.ts';
import { tpmTimeout, tpmUnreachable } from './tpm-device-error.ts';
import type { TpmDevice } from './tpm-device.ts';

export type TpmSocketAddress = { readonly path: string } | { readonly host: string; readonly port: number };

const CONNECT_TIMEOUT_MS = 5000;

/** Connects to the data channel of a swtpm, which speaks bare commands and serves one client at a time. */
export async function openTpmSocket(
  address: TpmSocketAddress,
  { timeoutMs }: { readonly timeoutMs: number },
): Promise<TpmDevice> {
  const socket = connect(address);
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const timer = setTimeout(() => reject(tpmTimeout(CONNECT_TIMEOUT_MS)), CONNECT_TIMEOUT_MS);
  const fail = (error: Error) => reject(tpmUnreachable('the socket does not open', error));
  socket.once('connect', resolve).once('error', fail);
  try {
    await promise;
    socket.off('error', fail);
    return new TpmSocketDevice(socket, timeoutMs);
  } catch (error) {
    socket.on('error', () => {});
    socket.destroy();
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

interface PendingResponse {
  readonly resolve: (response: Uint8Array) => void;
  readonly reject: (error: Error) => void;
}

class TpmSocketDevice implements TpmDevice {
  readonly hasResourceManager = false;
  readonly #socket: Socket;
  readonly #timeoutMs: number;
  #pending: PendingResponse | undefined;
  #received: Buffer = Buffer.alloc(0);

  constructor(socket: Socket, timeoutMs: number) {
    this.#socket = socket;
    this.#timeoutMs = timeoutMs;
    socket.on('data', (bytes: Buffer) => this.#receive(bytes));
    socket.on('error', (error) => this.#fail(tpmUnreachable('the connection failed', error)));
    socket.on('close', () => this.#fail(tpmUnreachable('the connection was closed')));
  }

  async transmit(command: Uint8Array): Promise<Uint8Array> {
    if (this.#pending) throw new TypeError('A TPM takes one command at a time');
    if (this.#socket.destroyed) throw tpmUnreachable('the connection is closed');
    const { promise, resolve, reject } = Promise.withResolvers<Uint8Array>();
    this.#pending = { resolve, reject };
    const timer = setTimeout(() => this.#fail(tpmTimeout(this.#timeoutMs)), this.#timeoutMs);
    this.#socket.write(command);
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      this.#pending = undefined;
    }
  }

  close(): Promise<void> {
    if (this.#socket.destroyed) return Promise.resolve();
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#socket.once('close', () => resolve());
    this.#socket.destroy();
    return promise;
  }

  #receive(bytes: Buffer): void {
    if (!this.#pending) return this.#fail(tpmUnreachable('it spoke without being asked'));
    this.#received = Buffer.concat([this.#received, bytes]);
    if (this.#received.length < TPM_HEADER_BYTES) return;
    try {
      const size = readTpmMessageSize(this.#received);
      if (this.#received.length < size) return;
      if (this.#received.length > size) throw tpmUnreachable('it sent more than one response');
      const response = this.#received;
      this.#received = Buffer.alloc(0);
      this.#pending.resolve(response);
    } catch (error) {
      this.#fail(tpmUnreachable('its response is not one', error));
    }
  }

  #fail(error: Error): void {
    this.#pending?.reject(error);
    this.#socket.destroy();
  }
}
