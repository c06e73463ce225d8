import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import type { Lives, OnlineMaterial, RootAuthority } from '../../server/ca/ceremony.ts';
import { PicketError } from '../../shared/errors/errors.ts';
import { parseTrustDomain, type TrustDomain } from '../../shared/spiffe/trust-domain.ts';
import { decodePemBlocks, encodePem } from '../../shared/wire/pem.ts';
import { describeCertificate, trustDomainOfRoot, type CertificateSummary } from '../certificate-summary.ts';
import { durationSeconds } from '../duration-option.ts';
import { withExamples } from '../example.ts';
import { table } from '../output.ts';
import { readPassphrase } from '../passphrase.ts';
import { outputOf } from '../session.ts';

const DAY_SECONDS = 86_400;

/** Files of the folder: the root's, and those of the folder `online` (server/ca/open-authority.ts). */
const ROOT = { certificate: 'root.pem', key: 'root.key' } as const;

interface KeyOptions {
  readonly passphraseFile?: string;
  readonly rootKey?: string;
}

interface LifeOptions {
  readonly intermediateLife: number;
  readonly policyLife: number;
}

/** `picket ca`: the ceremony. The root is made here and put away; the server gets what the root signed. */
export function registerCa(program: Command): void {
  const ca = program
    .command('ca')
    .description('the certificate authority: make its root, and what the server runs with');
  withExamples(
    lifeOptions(
      keyOptions(
        ca.command('init').description('make the offline root, an online intermediate and the policy key'),
      ),
    )
      .requiredOption('--trust-domain <name>', 'name of the trust domain, such as example.org')
      .requiredOption('--out <folder>', 'where root.pem, root.key and the folder online are written')
      .option('--root-life <duration>', 'life of the root', durationSeconds, 3650 * DAY_SECONDS)
      .action(init),
    'picket ca init --trust-domain example.org --out /root/ca',
    'picket ca init --trust-domain example.org --out /root/ca --root-key /media/usb/root.key',
  );
  withExamples(
    lifeOptions(
      keyOptions(
        ca
          .command('renew <folder>')
          .description('sign a new intermediate and a new policy key with the root'),
      ),
    ).action(renew),
    'picket ca renew /root/ca',
  );
  withExamples(
    ca
      .command('show <folder>')
      .description('certificates, their ends, and the hash by which hosts pin the root')
      .action(show),
    'picket ca show /root/ca',
  );
}

function keyOptions(command: Command): Command {
  return command
    .option(
      '--passphrase-file <file>',
      'file with the passphrase of the root’s key; asked for on a terminal if absent',
    )
    .option(
      '--root-key <file>',
      'where the root’s key is kept, unencrypted: a removable or an encrypted disk',
    );
}

function lifeOptions(command: Command): Command {
  return command
    .option('--intermediate-life <duration>', 'life of the intermediate', durationSeconds, 365 * DAY_SECONDS)
    .option(
      '--policy-life <duration>',
      'life of the policy key’s certificate',
      durationSeconds,
      1095 * DAY_SECONDS,
    );
}

async function init(
  options: KeyOptions &
    LifeOptions & { readonly trustDomain: string; readonly out: string; readonly rootLife: number },
  command: Command,
): Promise<void> {
  const { createOnlineMaterial, createRoot } = await import('../../server/ca/ceremony.ts');
  const trustDomain = parseTrustDomain(options.trustDomain);
  requireAbsent(join(options.out, ROOT.certificate));
  const keyFile = options.rootKey ?? join(options.out, ROOT.key);
  requireAbsent(keyFile);
  const passphrase =
    options.rootKey === undefined ? await readPassphrase(options.passphraseFile, 'new') : undefined;
  const nowMs = Date.now();
  const root = await createRoot(trustDomain, { nowMs, lifeSeconds: options.rootLife });
  const online = await createOnlineMaterial(root, {
    trustDomain,
    nowMs,
    lives: livesOf(options, options.rootLife),
  });
  mkdirSync(options.out, { recursive: true, mode: 0o700 });
  await writeRootKey(keyFile, root, passphrase);
  writeNew(join(options.out, ROOT.certificate), root.certificatePem, 0o644);
  await writeOnline(options.out, root, online);
  report(command, { folder: options.out, keyFile });
}

async function renew(folder: string, options: KeyOptions & LifeOptions, command: Command): Promise<void> {
  const { createOnlineMaterial } = await import('../../server/ca/ceremony.ts');
  const { readPkcs8Pem } = await import('../../server/key-manager/encrypted-pkcs8.ts');
  const certificatePem = readText(join(folder, ROOT.certificate));
  const keyFile = options.rootKey ?? join(folder, ROOT.key);
  const keyPem = readText(keyFile);
  const isEncrypted = keyPem.includes('ENCRYPTED PRIVATE KEY');
  const passphrase = isEncrypted ? await readPassphrase(options.passphraseFile, 'existing') : undefined;
  const root = { certificatePem, privateKeyPkcs8: readPkcs8Pem(keyPem, passphrase) };
  const trustDomain: TrustDomain = trustDomainOfRoot(certificatePem);
  const lives = livesOf(options, 0);
  await writeOnline(
    folder,
    root,
    await createOnlineMaterial(root, { trustDomain, nowMs: Date.now(), lives }),
  );
  report(command, { folder, keyFile });
}

function show(folder: string, _options: unknown, command: Command): void {
  report(command, { folder, keyFile: undefined });
}

function livesOf(options: LifeOptions, rootSeconds: number): Lives {
  return {
    rootSeconds,
    intermediateSeconds: options.intermediateLife,
    policySeconds: options.policyLife,
  };
}

async function writeRootKey(
  path: string,
  root: RootAuthority,
  passphrase: string | undefined,
): Promise<void> {
  const { encryptPkcs8 } = await import('../../server/key-manager/encrypted-pkcs8.ts');
  const pem =
    passphrase === undefined
      ? encodePem('PRIVATE KEY', root.privateKeyPkcs8)
      : await encryptPkcs8(root.privateKeyPkcs8, passphrase);
  writeNew(path, pem, 0o600);
}

async function writeOnline(folder: string, root: RootAuthority, online: OnlineMaterial): Promise<void> {
  const { ONLINE_FILES } = await import('../../server/ca/open-authority.ts');
  const out = join(folder, 'online');
  mkdirSync(out, { recursive: true, mode: 0o700 });
  const write = (name: string, text: string, mode: number): void =>
    writeFileSync(join(out, name), text, { mode });
  write(ONLINE_FILES.bundle, root.certificatePem, 0o644);
  write(ONLINE_FILES.intermediate.key, encodePem('PRIVATE KEY', online.intermediateKeyPkcs8), 0o600);
  write(ONLINE_FILES.intermediate.certificate, online.intermediatePem, 0o644);
  write(ONLINE_FILES.policy.key, encodePem('PRIVATE KEY', online.policyKeyPkcs8), 0o600);
  write(ONLINE_FILES.policy.certificate, online.policyPem, 0o644);
}

function report(
  command: Command,
  where: { readonly folder: string; readonly keyFile: string | undefined },
): void {
  const output = outputOf(command);
  const { folder, keyFile } = where;
  const certificates = [
    join(folder, ROOT.certificate),
    join(folder, 'online/intermediate.pem'),
    join(folder, 'online/policy.pem'),
  ].flatMap((path) =>
    decodePemBlocks('CERTIFICATE', readText(path)).map((der) => describeCertificate(path, der)),
  );
  const [root] = certificates;
  output.result({ folder, rootKeySha256: root?.keySha256, certificates }, (result) =>
    renderSummary(result.certificates),
  );
  if (keyFile === undefined) return;
  output.note(`\nThe root’s private key is ${keyFile}. Take it off this machine, and keep two copies.`);
  output.note(
    `Give the folder ${join(folder, 'online')} to the server (ca.directory), and ${ROOT.certificate} to hosts with a TPM.`,
  );
}

function renderSummary(certificates: readonly CertificateSummary[]): string {
  return table(
    certificates,
    [
      { title: 'file', of: (c) => c.file },
      { title: 'name', of: (c) => c.uri },
      { title: 'ends', of: (c) => c.notAfter },
      { title: 'sha256 of the key', of: (c) => c.keySha256 },
    ],
    'There is no certificate.',
  );
}

function writeNew(path: string, text: string, mode: number): void {
  requireAbsent(path);
  writeFileSync(path, text, { mode, flag: 'wx' });
}

function requireAbsent(path: string): void {
  if (!existsSync(path)) return;
  throw new PicketError(
    'already_exists',
    'file_exists',
    `${path} is already there: nothing was changed. To replace what the root signed, use picket ca renew; for a new root, name another folder`,
  );
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw new PicketError('invalid_argument', 'file_unreadable', `Cannot read ${path}`, { cause });
  }
}
