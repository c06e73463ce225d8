import { join } from 'node:path';
import type { Command } from 'commander';
import type { Lives } from '../../server/ca/ceremony.ts';
import { parseTrustDomain, type TrustDomain } from '../../shared/spiffe/trust-domain.ts';
import { summarizeCertificates, trustDomainOfRoot, type CertificateSummary } from '../certificate-summary.ts';
import { CEREMONY, makeFolder, readText, requireAbsent, writeOnline, writeRoot } from '../ceremony-folder.ts';
import { durationOption } from '../duration-option.ts';
import { withExamples } from '../example.ts';
import { table } from '../output.ts';
import { readPassphrase } from '../passphrase.ts';
import { outputOf } from '../session.ts';

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
      .addOption(durationOption('--root-life <duration>', 'life of the root', '3650d'))
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
      .command('show <path>')
      .description('certificates of a folder or a file, their ends, and the hash by which hosts pin the root')
      .action(show),
    'picket ca show /root/ca',
    'picket ca show /root/ca/online/bundle.pem',
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
    .addOption(durationOption('--intermediate-life <duration>', 'life of the intermediate', '365d'))
    .addOption(durationOption('--policy-life <duration>', 'life of the policy key’s certificate', '1095d'));
}

async function init(
  options: KeyOptions &
    LifeOptions & { readonly trustDomain: string; readonly out: string; readonly rootLife: number },
  command: Command,
): Promise<void> {
  const { createOnlineMaterial, createRoot } = await import('../../server/ca/ceremony.ts');
  const trustDomain = parseTrustDomain(options.trustDomain);
  requireAbsent(join(options.out, CEREMONY.root));
  const keyFile = options.rootKey ?? join(options.out, CEREMONY.rootKey);
  requireAbsent(keyFile);
  // A root that was put away must not lose what it signed.
  requireAbsent(join(options.out, CEREMONY.intermediate));
  const passphrase =
    options.rootKey === undefined ? await readPassphrase(options.passphraseFile, 'new') : undefined;
  const nowMs = Date.now();
  const root = await createRoot(trustDomain, { nowMs, lifeSeconds: options.rootLife });
  const online = await createOnlineMaterial(root, {
    trustDomain,
    nowMs,
    lives: livesOf(options, options.rootLife),
  });
  makeFolder(options.out);
  await writeRoot({ folder: options.out, keyFile, root, passphrase });
  await writeOnline(options.out, root, online);
  report(command, { folder: options.out, keyFile });
}

async function renew(folder: string, options: KeyOptions & LifeOptions, command: Command): Promise<void> {
  const { createOnlineMaterial } = await import('../../server/ca/ceremony.ts');
  const { readPkcs8Pem } = await import('../../server/key-manager/encrypted-pkcs8.ts');
  const certificatePem = readText(join(folder, CEREMONY.root));
  const keyFile = options.rootKey ?? join(folder, CEREMONY.rootKey);
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

function show(path: string, _options: unknown, command: Command): void {
  report(command, { folder: path, keyFile: undefined });
}

function livesOf(options: LifeOptions, rootSeconds: number): Lives {
  return {
    rootSeconds,
    intermediateSeconds: options.intermediateLife,
    policySeconds: options.policyLife,
  };
}

function report(
  command: Command,
  where: { readonly folder: string; readonly keyFile: string | undefined },
): void {
  const output = outputOf(command);
  const { folder, keyFile } = where;
  const certificates = summarizeCertificates(folder);
  const rootKeySha256 = certificates.find(({ isRoot }) => isRoot)?.keySha256;
  output.result({ folder, rootKeySha256, certificates }, (result) => renderSummary(result.certificates));
  if (keyFile === undefined) return;
  output.note(`\nThe root’s private key is ${keyFile}. Take it off this machine, and keep two copies.`);
  output.note(
    `Give the folder ${join(folder, CEREMONY.online)} to the server (ca.directory), and ${CEREMONY.root} to hosts with a TPM.`,
  );
}

function renderSummary(certificates: readonly CertificateSummary[]): string {
  return table(
    certificates,
    [
      { title: 'file', of: (c) => c.file },
      { title: 'name', of: (c) => c.uri },
      { title: 'subject', of: (c) => c.subject },
      { title: 'ends', of: (c) => c.notAfter },
      { title: 'sha256 of the key', of: (c) => c.keySha256 },
    ],
    'There is no certificate.',
  );
}
