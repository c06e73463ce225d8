import { createServer, connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { systemClock } from '../../shared/runtime/clock.ts';
import { buildTpmCommand } from '../../shared/wire/tpm2-command.ts';
import { startSwtpm, type Swtpm } from '../../tests/kit/swtpm.ts';
import { refusalOf } from '../../tests/kit/refusal-of.ts';
import { openTpmDevice } from './open-tpm-device.ts';
import { TpmClient } from './tpm-client.ts';
import type { TpmDevice } from './tpm-device.ts';

// Each test speaks to a TPM, and some start one.
setDefaultTimeout(60_000);

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

const allPcrs = Array.from({ length: 24 }, (_, pcr) => pcr);
const anyCommand = buildTpmCommand({ name: 'flushContext', parameters: new Uint8Array(4) });

/** The contract of the port: what both adapters do with a real TPM. */
async function expectWorkingDevice(device: TpmDevice): Promise<void> {
  const client = new TpmClient(device, systemClock);
  expect((await client.readPcrs(allPcrs)).size).toBe(24);
  expect((await client.readPcrs([0])).get(0)).toEqual(Buffer.alloc(32));
  expect(await client.findNvData(0x01c0_0002)).toBeUndefined();
  await device.close();
  await device.close();
  expect(await refusalOf(device.transmit(anyCommand))).toMatchObject({ reason: 'tpm_unreachable' });
}

describe('openTpmDevice() with swtpm', () => {
  let tpm: Swtpm;
  beforeAll(async () => {
    tpm = await startSwtpm();
  });
  afterAll(() => tpm.stop());

  test('speaks over a unix socket', async () => {
    await expectWorkingDevice(await openTpmDevice(tpm.address));
  });

  test('speaks over TCP on loopback', async () => {
    const port = await listen((socket) => socket.pipe(connect({ path: tpm.path })).pipe(socket));
    await expectWorkingDevice(await openTpmDevice(`tcp:127.0.0.1:${port}`));
  });

  test('speaks to a character device', async () => {
    const device = await startSwtpm({ transport: 'character-device' });
    closers.push(device.stop);
    await expectWorkingDevice(await openTpmDevice(device.address));
  });
});

describe('openTpmDevice()', () => {
  test('refuses addresses that it does not know, and TCP beyond loopback', async () => {
    for (const address of [
      '',
      'dev/tpmrm0',
      'unix:tpm',
      'tcp:192.0.2.1:2321',
      'tcp:localhost:2321',
      'tcp:127.0.0.1:0',
      'tcp:127.0.0.1:70000',
    ])
      expect(await refusalOf(openTpmDevice(address))).toMatchObject({ reason: 'tpm_address_invalid' });
  });

  test('says that nobody is there', async () => {
    const missing = join(tmpdir(), `picket-no-tpm-${process.pid}`);
    for (const address of [missing, `unix:${missing}`])
      expect(await refusalOf(openTpmDevice(address))).toMatchObject({
        code: 'unavailable',
        reason: 'tpm_unreachable',
      });
  });
});

describe('transmit() over a socket', () => {
  test('puts together a response that comes byte by byte', async () => {
    const answer = Buffer.from('80010000000a00000000', 'hex');
    const device = await openFake((socket) => {
      for (const byte of answer) socket.write(Uint8Array.of(byte));
    });
    expect(Buffer.from(await device.transmit(anyCommand))).toEqual(answer);
    expect(Buffer.from(await device.transmit(anyCommand))).toEqual(answer);
  });

  const refused: Readonly<Record<string, string>> = {
    'a size below the header': '80010000000900000000',
    'a size above 4,096': '80010000100100000000',
    'more than one response': '80010000000a0000000080010000000a00000000',
  };
  for (const [what, answer] of Object.entries(refused))
    test(`refuses ${what} and closes`, async () => {
      const device = await openFake((socket) => socket.write(Buffer.from(answer, 'hex')));
      expect(await refusalOf(device.transmit(anyCommand))).toMatchObject({ reason: 'tpm_unreachable' });
      expect(await refusalOf(device.transmit(anyCommand))).toMatchObject({ reason: 'tpm_unreachable' });
    });

  test('fails when the TPM goes away in the middle of a response', async () => {
    const device = await openFake((socket) => socket.end(Buffer.from('80010000', 'hex')));
    expect(await refusalOf(device.transmit(anyCommand))).toMatchObject({ reason: 'tpm_unreachable' });
  });

  test('gives up after its time limit and closes, so that a late response is not taken for another', async () => {
    const device = await openFake(() => {}, 50);
    expect(await refusalOf(device.transmit(anyCommand))).toMatchObject({
      code: 'deadline_exceeded',
      reason: 'tpm_timeout',
    });
    expect(await refusalOf(device.transmit(anyCommand))).toMatchObject({ reason: 'tpm_unreachable' });
  });
});

async function openFake(onCommand: (socket: Socket) => void, timeoutMs = 5000): Promise<TpmDevice> {
  const port = await listen((socket) => socket.on('data', () => onCommand(socket)));
  const device = await openTpmDevice(`tcp:127.0.0.1:${port}`, { timeoutMs });
  closers.push(() => device.close());
  return device;
}

async function listen(onConnection: (socket: Socket) => void): Promise<number> {
  const server = createServer((socket) => {
    socket.on('error', () => {});
    closers.push(() => socket.destroy());
    onConnection(socket);
  });
  const { promise, resolve } = Promise.withResolvers<void>();
  server.listen(0, '127.0.0.1', resolve);
  await promise;
  closers.push(() => server.close());
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the server has no port');
  return address.port;
}
