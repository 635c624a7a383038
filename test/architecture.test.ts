// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Which part of the program may know which other. */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import ts from 'typescript';

const source = path.resolve(import.meta.dirname, '../src');
const files = readdirSync(source, { recursive: true, encoding: 'utf8' }).filter((name) => /\.(ts|mjs)$/.test(name));

interface Import {
  readonly file: string;
  /** Of ours: the file's path below src, without its ending. Otherwise the package, or `node:…`. */
  readonly target: string;
  readonly isOurs: boolean;
  readonly isTypeOnly: boolean;
  /** Loaded with the file, not when `import()` is reached. */
  readonly isStatic: boolean;
}

const domains = ['blob', 'upload', 'manifest', 'tag', 'referrer', 'repository'];

/** Folder → what its files may import of other folders, as a prefix or a whole path; `type:` where only types may be. */
const allowed: Readonly<Record<string, readonly string[]>> = {
  oci: [],
  storage: ['oci/', 'type:worker/part-sender'],
  database: ['oci/'],
  worker: ['oci/'],
  supervision: [],
  journal: ['oci/', 'database/', 'storage/', 'type:quota/quotas'],
  quota: ['oci/', 'database/'],
  reads: [
    'oci/',
    'database/',
    'storage/blob-store',
    'storage/damage-marks',
    'storage/keys',
    'storage/manifest-object',
    'storage/store-lost',
    'type:manifest/manifest-cache',
    ...domains.map((domain) => `${domain}/*-queries`),
  ],
  collector: ['oci/', 'database/', 'storage/blob-store', 'storage/keys', 'rebuild/distribution-layout', 'type:config/config'],
  observe: [
    'oci/',
    'collector/status-queries',
    'cluster/status-queries',
    'type:collector/collection',
    'database/',
    'storage/blob-store',
    'http/contract',
    'http/client-address',
    'type:manifest/manifest-cache',
    'type:upload/buffer-pool',
    'type:worker/hash-clock',
    'type:worker/worker-pool',
    'scrub/state-queries',
    'type:scrub/scrubbing',
  ],
  rebuild: [
    'oci/',
    'database/',
    'storage/',
    'journal/',
    'type:worker/hash',
    'manifest/push-manifest',
    'blob/link-blob',
    'jobs/expire-writes',
    ...domains.map((domain) => `${domain}/*-queries`),
  ],
  scrub: [
    'oci/',
    'database/',
    'storage/',
    'journal/',
    'rebuild/',
    'cluster/cluster-queries',
    'type:worker/hash',
    'type:observe/log',
    'manifest/push-manifest',
    ...domains.map((domain) => `${domain}/*-queries`),
  ],
  layout: [
    'oci/',
    'storage/blob-store',
    'type:http/contract',
    'type:reads/metadata-reads',
    'manifest/push-manifest',
    'upload/upload-sessions',
    'type:upload/active-upload',
    ...domains.map((domain) => `${domain}/*-queries`),
  ],
  undo: [
    'oci/',
    'type:access/caller',
    'database/',
    'storage/blob-store',
    'storage/keys',
    'journal/',
    'http/contract',
    'http/pagination',
    'manifest/push-manifest',
    ...domains.map((domain) => `${domain}/*-queries`),
  ],
  cluster: ['oci/', 'collector/gate-queries', 'database/', 'storage/', ...domains.map((domain) => `${domain}/*-queries`)],
  access: [
    'oci/',
    'http/contract',
    'http/client-address',
    'http/direct-loopback',
    'type:http/path',
    'type:storage/blob-store',
    'storage/keys',
    'worker/password-pool',
    'type:config/config',
  ],
  limits: ['oci/', 'type:access/password/logins', 'http/client-address', 'type:http/contract', 'type:observe/metrics'],
  audit: ['oci/', 'type:access/verdict', 'type:http/contract', 'type:http/client-address', 'type:observe/metrics'],
  ...Object.fromEntries(
    domains.map((domain) => [
      domain,
      [
        'oci/',
        'journal/',
        'database/',
        'storage/blob-store',
        'storage/keys',
        ...(domain === 'manifest' ? ['storage/manifest-object'] : []),
        'type:worker/hash',
        'type:reads/metadata-reads',
        'type:access/caller',
        'http/contract',
        'http/byte-range',
        'http/conditional',
        'http/pagination',
        ...domains.map((other) => `${other}/*-queries`),
        ...(domain === 'upload' ? ['blob/link-blob'] : []),
        ...(domain === 'manifest' ? ['tag/delete-tag', 'blob/resurrect-link'] : []),
      ],
    ]),
  ),
};

/** Only these see everything. */
const roots = ['node', 'main', 'command-line'];

const imports = files.flatMap(importsOf);

void t.test('the test sees the program', async (t) => {
  t.ok(files.length > 50, `${files.length} files`);
  t.ok(
    imports.some(({ file, target }) => file === 'http/routes' && target === 'blob/handlers'),
    'and who imports whom',
  );
  t.ok(
    imports.some(({ isTypeOnly, target }) => isTypeOnly && target === 'worker/hash'),
    'and what for',
  );
});

void t.test('imports between folders', async (t) => {
  for (const { file, target, isOurs, isTypeOnly } of imports) {
    const folder = file.split('/', 1)[0] ?? '';
    const rules = allowed[folder];
    if (!isOurs || rules === undefined || target.startsWith(`${folder}/`)) continue;
    const fits = rules.some((rule) => {
      if (rule.startsWith('type:')) return isTypeOnly && target === rule.slice(5);
      if (rule.includes('*')) return target.startsWith(rule.slice(0, rule.indexOf('*'))) && target.endsWith('-queries');
      return rule.endsWith('/') ? target.startsWith(rule) : target === rule;
    });
    if (!fits) t.fail(`${file} imports ${target}`);
  }
  t.strictSame(
    imports.filter(({ file, target, isOurs }) => isOurs && roots.includes(target) && !roots.includes(file)),
    [],
    'nobody imports node.ts, main.ts or command-line.ts',
  );
});

void t.test('who may import what is not ours', async (t) => {
  const importers = (name: string) => [...new Set(imports.filter(({ target }) => target === name).map(({ file }) => file))];
  t.strictSame(importers('uWebSockets.js'), ['http/engine/uws-server'], 'uWebSockets.js');
  for (const name of [
    '@opentelemetry/api',
    '@opentelemetry/sdk-trace-node',
    '@opentelemetry/exporter-trace-otlp-http',
    '@opentelemetry/resources',
  ]) {
    t.strictSame(importers(name), ['observe/otlp-tracer'], `${name}: a node without traces does not load it`);
  }
  t.ok(
    imports.every(({ target, isStatic }) => target !== 'observe/otlp-tracer' || !isStatic),
    'nor what needs it',
  );
  const ofOci = imports.filter(({ file, isOurs }) => file.startsWith('oci/') && !isOurs);
  t.strictSame(ofOci, [], 'the vocabulary needs nothing');
});

void t.test('the environment is read in one place', async (t) => {
  const readers = files.filter((file) => /process\.env|process\['env'\]/.test(read(file)) && file !== 'start.mjs');
  t.strictSame([...readers].sort(), ['config/config.ts', 'http/engine/uws-server.ts']);
  const mentions = read('http/engine/uws-server.ts').match(/process\.env.*/g) ?? [];
  t.ok(
    mentions.every((line) => /^process\.env\['UWS_HTTP_MAX_HEADERS_SIZE'\] = '\d+';$/.test(line)),
    'but for what a binary wants to be told',
  );
});

void t.test('names', async (t) => {
  const folders = new Set(files.flatMap((file) => path.dirname(file).split(path.sep)));
  t.strictSame(
    [...folders].filter((name) => /^(utils?|helpers?|common|services?|managers?|misc|lib|shared)$/.test(name)),
    [],
    'no folder for whatever does not fit elsewhere',
  );
  t.strictSame(
    files.filter((file) => /\b(TODO|FIXME|XXX)\b/.test(read(file))),
    [],
    'nothing is left to do',
  );
  t.strictSame(
    files.filter((file) => !/^.* SPDX-License-Identifie[r]: EUPL-1\.2$/m.test(read(file).slice(0, 300))),
    [],
    'every file says whose it is',
  );
});

function read(file: string): string {
  return readFileSync(path.join(source, file), 'utf8');
}

function importsOf(name: string): Import[] {
  const file = name.replace(/\.(ts|mjs)$/, '');
  const tree = ts.createSourceFile(name, read(name), ts.ScriptTarget.Latest, true);
  const found: Import[] = [];
  const add = (specifier: ts.Node | undefined, isTypeOnly: boolean, isStatic = true): void => {
    if (specifier === undefined || !ts.isStringLiteral(specifier)) return;
    const isOurs = specifier.text.startsWith('.');
    const target = isOurs ? path.posix.join(path.posix.dirname(file), specifier.text).replace(/\.js$/, '') : specifier.text;
    found.push({ file, target, isOurs, isTypeOnly, isStatic });
  };
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node)) add(node.moduleSpecifier, isTypeImport(node));
    else if (ts.isExportDeclaration(node)) add(node.moduleSpecifier, node.isTypeOnly);
    else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) add(node.arguments[0], false, false);
    else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) add(node.argument.literal, true);
    ts.forEachChild(node, visit);
  };
  visit(tree);
  return found;
}

function isTypeImport({ importClause }: ts.ImportDeclaration): boolean {
  if (importClause === undefined) return false;
  const { namedBindings } = importClause;
  if (importClause.isTypeOnly) return true;
  return (
    importClause.name === undefined &&
    namedBindings !== undefined &&
    ts.isNamedImports(namedBindings) &&
    namedBindings.elements.every((element) => element.isTypeOnly)
  );
}
