import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Child, runOk } from './child.ts';

/** A certificate authority that plays the TPMs' manufacturer. */
export interface SwtpmManufacturer {
  readonly configPath: string;
  /** PEM of the root and of the intermediate that signs EK certificates. */
  readonly rootPem: () => Promise<string>;
  readonly intermediatePem: () => Promise<string>;
  /** Removes the authority with all its files. */
  readonly remove: () => Promise<void>;
}

/** A running software TPM. */
export interface Swtpm {
  /** Address for `openTpmDevice`. */
  readonly address: string;
  /** Path of the socket or device. */
  readonly path: string;
  /** Ends the process and removes its state. */
  readonly stop: () => Promise<void>;
}

/** Prepares a manufacturer in a folder of its own; its keys are made with the first TPM. */
export async function createSwtpmManufacturer(): Promise<SwtpmManufacturer> {
  const folder = await mkdtemp(join(tmpdir(), 'picket-swtpm-ca-'));
  const localca = join(folder, 'localca.conf');
  const options = join(folder, 'localca.options');
  const configPath = join(folder, 'setup.conf');
  await writeFile(
    localca,
    `statedir = ${folder}\nsigningkey = ${folder}/signkey.pem\nissuercert = ${folder}/issuercert.pem\ncertserial = ${folder}/certserial\n`,
  );
  await writeFile(options, '--platform-manufacturer Picket\n--platform-version 1\n--platform-model Test\n');
  await writeFile(
    configPath,
    `create_certs_tool = /usr/bin/swtpm_localca\ncreate_certs_tool_config = ${localca}\ncreate_certs_tool_options = ${options}\nactive_pcr_banks = sha256\n`,
  );
  return {
    configPath,
    rootPem: () => readFile(join(folder, 'swtpm-localca-rootca-cert.pem'), 'utf8'),
    intermediatePem: () => readFile(join(folder, 'issuercert.pem'), 'utf8'),
    remove: () => rm(folder, { recursive: true, force: true }),
  };
}

export interface SwtpmOptions {
  /** Who certifies the RSA 2048 and ECC P-384 endorsement keys; without one there are no certificates. */
  readonly manufacturer?: SwtpmManufacturer;
  /** A unix socket for one client at a time, or what behaves as a character device. */
  readonly transport?: 'unix' | 'character-device';
}

/** Makes and starts a TPM of its own. */
export async function startSwtpm(options: SwtpmOptions = {}): Promise<Swtpm> {
  const folder = await mkdtemp(join(tmpdir(), 'picket-swtpm-'));
  await manufacture(folder, options.manufacturer);
  const path = join(folder, 'tpm');
  const isDevice = options.transport === 'character-device';
  const common = ['--tpm2', '--flags', 'not-need-init,startup-clear', '--tpmstate', `dir=${folder}/state`];
  const socket = ['--server', `type=unixio,path=${path}`, '--ctrl', `type=unixio,path=${path}.ctrl`];
  const child = new Child({
    command: isDevice
      ? ['perl', join(import.meta.dir, 'swtpm-character-device.pl'), path, ...common]
      : ['swtpm', 'socket', ...common, ...socket],
    logFile: join(folder, 'swtpm.log'),
  });
  const stop = async () => {
    await child.stop();
    await rm(folder, { recursive: true, force: true });
  };
  try {
    await child.ready('swtpm listens', () => (isDevice ? existsSync(path) : accepts(path)));
  } catch (error) {
    await stop();
    throw error;
  }
  return { address: isDevice ? path : `unix:${path}`, path, stop };
}

async function manufacture(folder: string, manufacturer: SwtpmManufacturer | undefined): Promise<void> {
  const state = join(folder, 'state');
  await mkdir(state);
  const setup = ['--tpm2', '--tpm-state', state, '--pcr-banks', 'sha256'];
  if (manufacturer) setup.push('--create-ek-cert', '--config', manufacturer.configPath);
  await runOk(['swtpm_setup', ...setup], { env: { TMPDIR: folder } });
}

/** Whether somebody listens on the unix socket; the connection is given up at once. */
function accepts(path: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const socket = connect({ path });
  socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
  return promise.finally(() => socket.destroy());
}
