import { z } from 'zod';
import type { InputPath } from '../../shared/policy/policy-bundle.ts';
import type { FiredRule, PolicyFault, PolicyFiles, PolicyRefusal } from './policy-compiler.ts';

/** What the `opa` executable prints, as far as we read it. */

/** What is wrong with a policy, and under which reason it is refused. */
export interface OpaFaults {
  readonly reason: PolicyRefusal;
  readonly faults: readonly PolicyFault[];
}

const location = z.object({ file: z.string().default(''), row: z.number().int().default(0) });

const errorReport = z.object({
  errors: z.array(
    z.object({ message: z.string(), code: z.string().default(''), location: location.optional() }),
  ),
});

const testReport = z.array(
  z.object({
    location,
    package: z.string(),
    name: z.string(),
    fail: z.boolean().default(false),
    skip: z.boolean().default(false),
    error: z.object({ message: z.string().default('') }).optional(),
  }),
);

const traceReport = z.object({
  explanation: z
    .array(z.object({ Op: z.string(), Node: z.unknown(), Location: location.nullable() }))
    .default([]),
});

const ruleNode = z.object({
  default: z.boolean().default(false),
  head: z.object({ ref: z.array(z.object({ value: z.unknown() })) }),
});

const dependencies = z.object({
  base: z.array(z.array(z.object({ type: z.string(), value: z.unknown() }))).default([]),
});

/** A rule's name in OPA's text for an error about a builtin that the capabilities leave out. */
const UNDEFINED_FUNCTION = /undefined function ([\w.]+)/;

/**
 * Reads `opa check --format json` or, where that is no JSON, OPA's lines `file:row: code: message`. `isBuiltin` says whether OPA knows a
 * function that was not found: then it is one that we forbid.
 */
export function readErrors(text: string, isBuiltin: (name: string) => boolean): OpaFaults {
  const parsed = parseErrors(text);
  const faults = parsed.map(({ file, line, message }) => ({ file, line, message }));
  if (parsed.some(({ code }) => code === 'rego_parse_error')) return { reason: 'policy_syntax', faults };
  const forbidden = parsed.filter(({ message }) => isBuiltin(UNDEFINED_FUNCTION.exec(message)?.[1] ?? ''));
  if (forbidden.length > 0) {
    return {
      reason: 'policy_forbidden_builtin',
      faults: forbidden.map(({ file, line, message }) => ({
        file,
        line,
        message: `the builtin ${UNDEFINED_FUNCTION.exec(message)?.[1]} may not be used`,
      })),
    };
  }
  const isTyped = parsed.some(({ code }) => code.startsWith('rego_'));
  return { reason: isTyped ? 'policy_type' : 'policy_syntax', faults };
}

/** Reads `opa test --format json`: the faults of the tests that failed, and how many passed. Undefined for what is no such report. */
export function findTestResults(
  text: string,
): { readonly passed: number; readonly faults: readonly PolicyFault[] } | undefined {
  const report = testReport.safeParse(parseJson(text));
  if (!report.success) return undefined;
  const failed = report.data.filter((result) => result.fail || result.error !== undefined);
  return {
    passed: report.data.filter((result) => !result.skip).length - failed.length,
    faults: failed.map((result) => ({
      file: cleanFile(result.location.file),
      line: result.location.row,
      message: `test ${result.package}.${result.name} failed${result.error === undefined ? '' : `: ${result.error.message}`}`,
    })),
  };
}

/** Reads the trace of `opa eval --explain full --format json`: the rules that were left through their end, each once, in order. A default value is no rule that fired. */
export function readFiredRules(text: string, files: PolicyFiles): readonly FiredRule[] {
  const report = traceReport.safeParse(parseJson(text));
  const rules = new Map<string, FiredRule>();
  for (const event of report.success ? report.data.explanation : []) {
    const node = ruleNode.safeParse(event.Node);
    if (event.Op !== 'Exit' || !node.success || node.data.default || event.Location === null) continue;
    const file = cleanFile(event.Location.file);
    const name = node.data.head.ref.map(({ value }) => (typeof value === 'string' ? value : '_')).join('.');
    const rule = { rule: `data.${packageOf(files[file])}.${name}`, file, line: event.Location.row };
    rules.set(`${file}:${rule.line}:${rule.rule}`, rule);
  }
  return [...rules.values()];
}

interface OpaError extends PolicyFault {
  readonly code: string;
}

function parseErrors(text: string): readonly OpaError[] {
  const report = errorReport.safeParse(parseJson(text));
  if (!report.success) return parseErrorLines(text);
  return report.data.errors.map((error) => ({
    file: cleanFile(error.location?.file ?? ''),
    line: error.location?.row ?? 0,
    message: error.message,
    code: error.code,
  }));
}

function parseErrorLines(text: string): readonly OpaError[] {
  const errors = [...text.matchAll(/^(?:error: )?(\S+?):(\d{1,9}): (?:(rego_\w+): )?(.+)$/gm)].map(
    (match) => ({
      file: cleanFile(match[1] ?? ''),
      line: Number(match[2]),
      message: match[4] ?? '',
      code: match[3] ?? '',
    }),
  );
  if (errors.length > 0) return errors;
  const message = text.trim().slice(0, 500);
  return [{ file: '', line: 0, message: message === '' ? 'the compiler gave no reason' : message, code: '' }];
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

function packageOf(source: string | undefined): string {
  return /^\s*package\s+(\S+)/m.exec(source ?? '')?.[1] ?? '';
}

/** OPA names files of a bundle relative to its root, with or without a leading slash. */
function cleanFile(file: string): string {
  return file.replace(/^\.?\//, '');
}

/** The parts of the input in what `opa deps --format json` prints. What stands behind a step that is no field's name is meant whole. Undefined for what is no such answer. */
export function findInputPaths(text: string): readonly InputPath[] | undefined {
  const parsed = dependencies.safeParse(parseJson(text));
  return parsed.data?.base
    .filter(([root]) => root?.type === 'var' && root.value === 'input')
    .map(([, ...steps]) => {
      const end = steps.findIndex(({ type, value }) => type !== 'string' || typeof value !== 'string');
      return (end < 0 ? steps : steps.slice(0, end)).map(({ value }) => String(value));
    });
}
