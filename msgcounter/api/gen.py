#!/usr/bin/env python3
"""gen.py - makes the call table and the wrappers from mpi.api, kinds.api and the installed mpi.h

    gen.py --cc 'gcc -I/usr/include/...' --lib libmpich.so.12 --out build/gen [--api DIR]

writes
    call_id.h      enum call, CALL_LIST(X), prototypes' numbers
    call_hand.h    prototypes of the by-hand functions and hooks that rows name
    call_table.c   call_table[], call_hand[]
    wrappers.c     PMPI_X and its weak alias MPI_X for every call
    lower_table.c  the real functions by call number, for the lower program
    call_limits.h  what of the API is refused, for `dbg3 help calls`
    symbols.txt    what the real library exports to applications: the symbols test reads it

It fails, naming file and line, when a function of the header has no row, a row names no function, a
buffer has no length, or an output of a recorded call has none.
"""
import argparse
import fnmatch
import os
import re
import subprocess
import sys

SPANS = {'one': 'ONE', 'size': 'SIZE', 'local': 'LOCAL', 'v': 'V', 'w': 'W', 'sum': 'SUM',
         'mine': 'MINE',
         'inneighbors': 'IN_NEIGHBORS', 'outneighbors': 'OUT_NEIGHBORS', 'opaque': 'OPAQUE'}
VECTOR_SPANS = {'v', 'w', 'sum', 'mine'}
CLASSES = {'inquire', 'local', 'p2p', 'complete', 'coll', 'icoll', 'create', 'free', 'init', 'rma',
           'io', 'spawn', 'tool'}
FLAGS = {'pure': 'PURE', 'anytime': 'ANY_TIME', 'coll': 'COLLECTIVE', 'unable': 'UNABLE',
         'existing': 'EXISTING', 'value': 'VALUE', 'free': 'FREE', 'direct': 'DIRECT',
         'neighbors': 'NEIGHBORS', 'own': 'OWN', 'persistent': 'PERSISTENT'}


class Fault(Exception):
    """What is wrong with the input, for the person who edits it."""


# ------------------------------------------------------------------------------------- mpi.h


class Param:
    """A parameter of a C prototype: `ctype` is normalised ('const int*', 'MPI_Request[]')."""

    def __init__(self, text, position):
        self.decl = text.strip()
        if self.decl.endswith('*'):
            self.decl += f'arg{position}'
        function = re.match(r'(.*)\(\s*\*+\s*(\w+)\s*\)\s*\((.*)\)$', self.decl)
        if function:
            self.ctype, self.name = 'void(*)()', function.group(2)
            return
        m = re.match(r'(.*?)(\w+)((?:\s*\[\s*\w*\s*\])*)$', self.decl)
        if not m:
            raise Fault(f'mpi.h: cannot read parameter {self.decl}')
        base, self.name, arrays = m.group(1), m.group(2), m.group(3)
        base = re.sub(r'\s*\*\s*', '*', ' '.join(base.split())).strip()
        self.ctype = base + re.sub(r'\s', '', arrays)


class Proto:
    def __init__(self, returns, name, params):
        self.returns, self.name = returns, name
        self.variadic = params.strip().endswith('...')
        texts = [p for p in split_params(params) if p not in ('void', '...')]
        self.params = [Param(t, i) for i, t in enumerate(texts)]


def split_params(text):
    parts, depth, start = [], 0, 0
    for i, c in enumerate(text):
        depth += {'(': 1, ')': -1}.get(c, 0)
        if c == ',' and depth == 0:
            parts.append(text[start:i].strip())
            start = i + 1
    return parts + [text[start:].strip()]


def strip_attributes(text):
    out, at = [], 0
    for m in iter(lambda: re.compile(r'__attribute__\s*\(').search(text, at), None):
        out.append(text[at:m.start()])
        at, depth = m.end(), 1
        while depth:
            depth += {'(': 1, ')': -1}.get(text[at], 0)
            at += 1
    return ''.join(out) + text[at:]


def read_header(cc):
    """All prototypes of mpi.h by name."""
    text = subprocess.run(cc.split() + ['-E', '-P', '-xc', '-'], input='#include <mpi.h>\n',
                          capture_output=True, text=True, check=True).stdout
    text = ' '.join(strip_attributes(text).split())
    nested = r'(?:[^()]|\((?:[^()]|\([^()]*\))*\))*'
    found = re.finditer(r'(?:^|(?<=[;}]))\s*((?:int|double|void|MPI\w+)\s*\**)\s*'
                        r'((?:P?MPIX?|P?MPI_T|QMPI|MPIR)_\w+)\s*\((' + nested + r')\)\s*(?=;)',
                        text)
    return {m.group(2): Proto(m.group(1).strip(), m.group(2), m.group(3)) for m in found}


def read_exports(library):
    """{symbol: (nm's type letter, size)} of what a shared library defines."""
    text = subprocess.run(['nm', '-D', '-S', '--defined-only', library], capture_output=True,
                          text=True, check=True).stdout
    rows = [line.split() for line in text.splitlines()]
    return {r[-1]: (r[-2], int(r[1], 16) if len(r) == 4 else 0) for r in rows}


# --------------------------------------------------------------------------------- *.api files


class Kinds:
    """kinds.api."""

    def __init__(self, path):
        self.handles, self.kinds, self.buffers, self.refusals = {}, [], [], {}
        for where, words in read_rows(path):
            if words[0] == 'handle' and len(words) == 3:
                self.handles[words[1]] = words[2]
            elif words[0] == 'kind' and len(words) == 4:
                self.kinds.append(words[1:])
            elif words[0] == 'buffer' and len(words) == 5:
                self.buffers.append(words[1:])
            elif words[0] == 'refuse' and len(words) == 3:
                self.refusals[words[1]] = unquote(words[2])
            else:
                raise Fault(f'{where}: not a rule: {" ".join(words)}')

    def spec_of(self, param):
        """The spec of a parameter that its row does not mention."""
        bare = re.sub(r'^const |\*$|\[\]$', '', param.ctype)
        if bare in self.handles and re.fullmatch(r'(const )?\w+(\*|\[\])?', param.ctype):
            return 'handle'
        for ctype, name, spec in self.kinds:
            if glob(ctype, param.ctype) and glob(name, param.name):
                return spec
        raise Fault(f'kinds.api: no rule for {param.decl}')

    def buffer_params(self, name, span, index):
        """Indices of count, displacements and type of the buffer `name`."""
        for pattern, *lists in self.buffers:
            if not glob(pattern, name):
                continue
            found = []
            for which, names in enumerate(lists):
                hits = [n for n in names.split(',') if n in index]
                if which == 0 and span not in VECTOR_SPANS:
                    hits = [n for n in hits if not n.endswith('counts')]
                if which == 1 and span not in ('v', 'w'):
                    hits = []
                found.append(index[hits[0]] if hits else -1)
            return found
        raise Fault(f'kinds.api: no buffer rule for {name}')


def glob(pattern, text):
    """fnmatch where only * and ? are wild and \\* is a star."""
    escaped = pattern.replace('[', '\0').replace('\\*', '\1')
    escaped = escaped.replace('\0', '[[]').replace('\1', '[*]')
    return fnmatch.fnmatchcase(text, escaped)


def unquote(word):
    return word[1:-1] if word.startswith('"') else word


def read_rows(path):
    """Yields ('file:line', words) of the lines that are not empty or comments; "..." is a word."""
    with open(path, encoding='ascii') as f:
        for number, line in enumerate(f, 1):
            line = re.sub(r'(^|\s)#.*', '', line.rstrip('\n')) if '"' not in line else line.strip()
            words = re.findall(r'"[^"]*"|[^\s"]+', line)
            if words and not words[0].startswith('#'):
                yield f'{os.path.basename(path)}:{number}', words


class Row:
    """A row of mpi.api."""

    def __init__(self, where, words, kinds):
        self.where, self.name = where, words[0]
        self.cls, _, self.detail = words[1].partition('.')
        self.flags, self.specs = set(), {}
        self.hand = self.reason = self.before = self.after = self.refused = None
        if self.cls not in CLASSES:
            raise Fault(f'{where}: {self.name}: no class {self.cls}')
        refuse, record = kinds.refusals.get(self.cls), False
        for word in words[2:]:
            key, eq, value = word.partition('=')
            if word.startswith('"'):
                self.reason = unquote(word)
            elif word in FLAGS:
                self.flags.add(word)
            elif word == 'record':
                record = True
            elif key.startswith('norecord.') and not eq:
                refuse = kinds.refusals.get(key.partition('.')[2])
                if not refuse:
                    raise Fault(f'{where}: {self.name}: no text to {word}')
            elif eq and key in ('hand', 'before', 'after'):
                setattr(self, key, value)
            elif eq:
                self.specs[key] = value
            else:
                raise Fault(f'{where}: {self.name}: what is {word}?')
        if self.cls == 'free':
            self.flags.add('free')
        if (self.hand or 'direct' in self.flags) and not self.reason:
            raise Fault(f'{where}: {self.name} is by hand without a reason')
        self.refused = None if record else refuse


# ------------------------------------------------------------------------------- table entries


class Entry:
    """A parameter's row in the table, as C initialisers."""

    def __init__(self, call, param, spec):
        self.call, self.param = call, param
        self.fields = {'name': f'"{param.name}"'}
        self.kind = None
        condition = ''
        if '?' in spec:
            spec, condition = spec.split('?')
            self.fields['condition'] = str(call.index_of(condition) + 1)
        word, length = re.fullmatch(r'([\w:@]+)(?:\[(.*)\])?', spec).groups()
        self.length_given = length is not None
        make = getattr(self, 'make_' + word.partition(':')[0], None)
        if not make:
            raise Fault(f'{call.row.where}: {call.name}: {param.name}: no kind {spec}')
        make(word)
        if length is not None:
            self.set_length(length)

    def set(self, **fields):
        self.fields.update(fields)

    def bare(self):
        return re.sub(r'^const |[*\[\]]+$', '', self.param.ctype)

    def set_kind(self, kind, direction=None):
        self.kind = kind
        self.set(kind=f'PARAM_{kind}')
        if direction:
            self.set(dir=f'DIR_{direction}')

    def set_length(self, text):
        """LENGTH of mpi.api, or alternatives a|b of which the call has one."""
        call, rule, index = self.call, 'PARAM', None
        m = re.fullmatch(r'(size|indegree|outdegree|sum)\((\w+)\)', text)
        if text.isdigit() or text.startswith('MPI_'):
            self.set(array='1', length_rule='LENGTH_CONST', length=text)
            return
        if m:
            rule, index = m.group(1).upper(), call.index_of(m.group(2))
        elif text.startswith('*'):
            rule, index = 'DEREF', call.index_of(text[1:])
        elif text.endswith('@root'):
            rule, index = 'ROOT_ONLY_PARAM', call.index_of(text[:-5])
        else:
            names = [n for n in text.split('|') if n in call.index]
            if not names:
                raise Fault(f'{call.row.where}: {call.name}: {self.param.name}: no length {text}')
            index = call.index[names[0]]
        self.set(array='1', length_rule=f'LENGTH_{rule}', length=str(index))

    def element_size(self):
        return f'sizeof({self.bare()})'

    # one function a SPEC
    def make_value(self, word):
        self.set_kind('VALUE')

    def make_function(self, word):
        self.set_kind('FUNCTION', 'IN')

    def make_in(self, word):
        self.set_kind('IN', 'IN')
        if self.param.ctype in ('const int[]', 'const MPI_Count[]', 'const MPI_Aint[]'):
            self.set(size=self.element_size())

    def make_text(self, word):
        self.set_kind('TEXT', 'OUT')

    def make_out(self, word):
        self.set_kind('OUT', 'OUT')
        self.set(size=self.element_size())

    def make_inout(self, word):
        self.make_out(word)
        self.set(dir='DIR_INOUT')

    def make_array(self, word):
        self.make_out(word)
        self.set(array='1')

    def make_status(self, word):
        self.set_kind('STATUS', 'OUT')
        self.set(size='sizeof(MPI_Status)')

    def make_weights(self, word):
        self.set_kind('WEIGHTS', 'IN' if self.param.ctype.startswith('const') else 'OUT')
        self.set(size='sizeof(int)')

    def make_handle(self, word, direction=None):
        ctype = self.param.ctype
        array = ctype.endswith('[]') or self.length_given
        if not direction:
            if not re.search(r'[*\]]$', ctype) or ctype.startswith('const'):
                direction = 'IN'
            elif ctype.endswith('[]'):
                direction = 'INOUT'
            else:
                direction = 'OUT'
        self.set_kind('HANDLE', direction)
        self.set(handle=f'HANDLE_{self.call.kinds.handles[self.bare()].upper()}',
                 array='1' if array else '0', by_value='0' if re.search(r'[*\]]$', ctype) else '1')

    def make_handlein(self, word):
        self.make_handle(word, 'IN')

    def make_handleinout(self, word):
        self.make_handle(word, 'INOUT')

    def make_packed(self, word):
        self.set_kind('BUFFER', 'OUT')
        self.set(span='SPAN_PACKED', count=str(self.call.index_of('position')), displs='-1',
                 type='-1')

    def make_bcast(self, word):
        self.make_buffer('buffer:one@nonroot')
        self.set(dir='DIR_INOUT')

    def make_buffer(self, word):
        span, _, where = word.partition(':')[2].partition('@')
        if span not in SPANS:
            raise Fault(f'{self.call.row.where}: {self.call.name}: no span {span}')
        self.set_kind('BUFFER', 'IN' if self.param.ctype.startswith('const') else 'OUT')
        count, displs, datatype = self.call.kinds.buffer_params(self.param.name, span,
                                                                self.call.index)
        if span != 'opaque' and (count < 0 or datatype < 0):
            raise Fault(f'{self.call.row.where}: {self.call.name}: {self.param.name} has no length')
        self.set(span=f'SPAN_{SPANS[span]}', count=str(count), displs=str(displs),
                 type=str(datatype), where=f'WHERE_{where.upper() or "ALL"}')

    def lacks_length(self):
        return self.fields.get('array') == '1' and 'length_rule' not in self.fields

    def text(self):
        return '{' + ', '.join(f'.{k} = {v}' for k, v in self.fields.items()) + '}'


class Call:
    """A function of mpi.h with its row."""

    def __init__(self, proto, row, kinds, base):
        self.proto, self.row, self.kinds = proto, row, kinds
        self.name, self.base = proto.name, base
        self.index = {p.name: i for i, p in enumerate(proto.params)}
        self.check_names()
        self.entries = [Entry(self, p, self.spec(p, i)) for i, p in enumerate(proto.params)]
        if 'free' in row.flags:
            self.entries[0].set(dir='DIR_INOUT')
        self.check_lengths()
        self.check_outputs()

    @property
    def large(self):
        return self.base != self.name

    def index_of(self, name):
        if name not in self.index:
            raise Fault(f'{self.row.where}: {self.name} has no parameter {name}')
        return self.index[name]

    def spec(self, param, i):
        spec = self.row.specs.get(param.name)
        if spec:
            return spec
        spec = self.kinds.spec_of(param)
        if spec.startswith('buffer') and self.row.refused:
            spec = 'buffer:opaque'
        if spec.startswith(('status[', 'array')) and self.row.refused:
            spec = 'value'
        return spec

    def check_names(self):
        for name in self.row.specs:
            if name not in self.index and not self.large:
                if not (self.base + '_c' in self.kinds.known and
                        name in self.kinds.known[self.base + '_c']):
                    raise Fault(f'{self.row.where}: {self.name} has no parameter {name}')

    def check_outputs(self):
        """What the lower half may write through is recorded, or its row says: only read."""
        if self.row.refused or self.row.hand or 'direct' in self.row.flags:
            return
        for e in self.entries:
            if re.search(r'[*\]]', e.param.ctype) and not e.param.ctype.startswith('const') and \
                    e.kind in ('VALUE', 'IN') and e.param.name not in self.row.specs:
                raise Fault(f'{self.row.where}: {self.name}: output {e.param.name} is not recorded')

    def check_lengths(self):
        for e in self.entries:
            if e.lacks_length() and not (self.row.refused and e.kind != 'HANDLE'):
                raise Fault(f'{self.row.where}: {self.name}: {e.param.name} has no length')

    def first(self, ctype, pointer=False):
        for i, p in enumerate(self.proto.params):
            if p.ctype == ctype or (pointer and p.ctype == ctype + '*' and
                                    'free' in self.row.flags):
                return i
        return -1

    def result(self):
        for i, e in enumerate(self.entries):
            if e.kind == 'HANDLE' and e.fields['dir'] == 'DIR_OUT' and e.fields['array'] == '0' \
                    and 'REQUEST' not in e.fields['handle']:
                return i
        return -1

    def plain(self):
        """All that needs translation are handles that are passed by value."""
        return all(e.kind not in ('HANDLE', 'WEIGHTS') or
                   (e.kind == 'HANDLE' and e.fields['by_value'] == '1' and
                    'ERRHANDLER' not in e.fields['handle']) for e in self.entries)

    def value_handles(self):
        return sum(1 << i for i, e in enumerate(self.entries)
                   if e.kind == 'HANDLE' and e.fields['by_value'] == '1')

    def outputs(self):
        """Parameters of a call by hand that point to one output each, which may not be NULL. Calls
        that are interpreted leave that to the MPI library; so do those of MPI-IO."""
        if not self.row.hand or self.row.cls in ('tool', 'init', 'io'):
            return []
        return [e.param.name for e in self.entries
                if e.kind in ('STATUS', 'OUT', 'HANDLE') and e.param.ctype.endswith('*') and
                e.fields['dir'] in ('DIR_OUT', 'DIR_INOUT') and e.fields.get('array') != '1' and
                'length_rule' not in e.fields]

    def flags(self):
        names = {FLAGS[f] for f in self.row.flags}
        if self.large:
            names.add('LARGE')
        if self.row.refused:
            names.add('UNRECORDED')
        if self.plain():
            names.add('PLAIN')
        return ' | '.join('CALL_' + n for n in sorted(names)) or '0'


def read_calls(cc, library, api):
    """All calls in the order of mpi.h, and the exports of the real library."""
    protos, exports = read_header(cc), read_exports(library)
    names = [n for n in protos if not n.startswith('P') and n in exports]
    kinds = Kinds(os.path.join(api, 'kinds.api'))
    kinds.known = {n: {p.name for p in protos[n].params} for n in names}
    rows = {}
    for where, words in read_rows(os.path.join(api, 'mpi.api')):
        if words[0] in rows:
            raise Fault(f'{where}: {words[0]} has a row already ({rows[words[0]].where})')
        rows[words[0]] = Row(where, words, kinds)
    calls = []
    for name in names:
        base = name[:-2] if name.endswith('_c') and name[:-2] in protos else name
        row = rows.get(name) or rows.get(base)
        if not row:
            raise Fault(f'mpi.api: no row for {name}')
        calls.append(Call(protos[name], row, kinds, base))
    for row in rows.values():
        if row.name not in names:
            raise Fault(f'{row.where}: {row.name} is no function of mpi.h')
    return calls, exports


# --------------------------------------------------------------------------------------- output

HEADING = '/* Generated by msgcounter/api/gen.py from mpi.api and mpi.h. */\n'


def c_string(text):
    return 'NULL' if text is None else '"' + text.replace('\\', '\\\\').replace('"', '\\"') + '"'


def call_id_h(calls):
    names = [c.name for c in calls]
    collective = [c.name for c in calls if c.row.cls in ('coll', 'icoll')]
    return (HEADING + '#ifndef DBG3_CALL_ID_H\n#define DBG3_CALL_ID_H\n\nenum call {\n' +
            ''.join(f'    CALL_{n},\n' for n in names) + '    CALL_COUNT\n};\n\n' +
            '#define CALL_LIST(X)' + ''.join(f' \\\n    X({n})' for n in names) + '\n\n' +
            '#define CALL_COLLECTIVES(X)' +
            ''.join(f' \\\n    X({n})' for n in collective) + '\n\n' +
            '/* The name of a call, or NULL where the number is none. */\n'
            'static inline const char *call_id_name(unsigned long call)\n{\n'
            '#define X(name) #name,\n'
            '    static const char *const names[] = {CALL_LIST(X)};\n'
            '#undef X\n'
            '    return call < CALL_COUNT ? names[call] : (const char *)0;\n}\n\n#endif\n')


def call_hand_h(calls):
    hands = sorted({c.row.hand for c in calls if c.row.hand})
    before = sorted({c.row.before for c in calls if c.row.before})
    after = sorted({c.row.after for c in calls if c.row.after})
    return (HEADING + '#ifndef DBG3_CALL_HAND_H\n#define DBG3_CALL_HAND_H\n\n' +
            ''.join(f'int hand_{h}(enum call call, const uint64_t *v);\n' for h in hands) +
            ''.join(f'int before_{h}(enum call call, const uint64_t *v);\n' for h in before) +
            ''.join(f'void after_{h}(enum call call, const uint64_t *v);\n' for h in after) +
            '\n#endif\n')


def call_table_c(calls):
    out = [HEADING, '#include "msgcounter/stub/call.h"\n\n']
    for c in calls:
        if c.entries:
            out.append(f'static const struct param_info params_{c.name}[] = {{\n' +
                       ''.join(f'    {e.text()},\n' for e in c.entries) + '};\n')
    out.append('\nconst struct call_info call_table[CALL_COUNT] = {\n')
    for c in calls:
        out.append(call_row(c))
    out.append('};\n\ncall_hand_fn *const call_hand[CALL_COUNT] = {\n')
    out += [f'    [CALL_{c.name}] = hand_{c.row.hand},\n' for c in calls if c.row.hand]
    out.append('};\n')
    return ''.join(out)


def call_row(c):
    file = max(c.first('MPI_File'), c.first('MPI_File', True))
    fields = {
        'name': f'"{c.name}"', 'class': f'CLASS_{c.row.cls.upper()}',
        'nparams': len(c.entries), 'flags': c.flags(), 'value_handles': hex(c.value_handles()),
        'comm': c.first('MPI_Comm', True), 'win': c.first('MPI_Win', True), 'file': file,
        'session': c.first('MPI_Session', True), 'root': c.index.get('root', -1),
        'request': c.first('MPI_Request*'), 'result': c.result(), 'base': f'CALL_{c.base}',
        'refused': c_string(c.row.refused), 'reason': c_string(c.row.reason),
        'params': f'params_{c.name}' if c.entries else 'NULL',
        'before': f'before_{c.row.before}' if c.row.before else 'NULL',
        'after': f'after_{c.row.after}' if c.row.after else 'NULL',
    }
    body = ',\n     '.join(f'.{k} = {v}' for k, v in fields.items())
    return f'    [CALL_{c.name}] = {{\n     {body}}},\n'


def as_word(param):
    if param.ctype == 'QMPI_Context':
        return f'(uint64_t){param.name}.storage_stack'
    if re.search(r'[*\]]|\(', param.ctype) or '_fn' in param.ctype or '_function' in param.ctype \
            or param.ctype in POINTER_TYPES:
        return f'(uint64_t){param.name}'
    return f'(uint64_t)(int64_t){param.name}'


POINTER_TYPES = {'MPI_File', 'MPI_T_enum', 'MPI_T_cvar_handle', 'MPI_T_pvar_handle',
                 'MPI_T_pvar_session', 'MPI_T_event_registration', 'MPI_T_event_instance'}


def wrapper(c):
    declared = ', '.join(p.decl for p in c.proto.params) or 'void'
    if c.proto.variadic:
        declared += ', ...'
    symbol = 'P' + c.name if not c.name.startswith('QMPI') else c.name
    words = ', '.join(as_word(p) for p in c.proto.params) or '0'
    alias = ''
    if symbol != c.name:
        alias = (f'extern __typeof__({symbol}) {c.name} '
                 f'__attribute__((weak, alias("{symbol}"), visibility("default")));\n')
    null = ' || '.join('!' + name for name in c.outputs())
    if null:
        null = (f'    if (__builtin_expect({null}, 0))\n'
                f'        return stub_call_null(CALL_{c.name}, v, __builtin_return_address(0));\n')
    return (f'EXPORT {c.proto.returns} {symbol}({declared})\n{{\n'
            f'    const uint64_t v[] = {{{words}}};\n{null}'
            f'    return stub_call(CALL_{c.name}, v, __builtin_return_address(0));\n}}\n{alias}')


def wrappers_c(calls):
    return (HEADING + '#include <mpi.h>\n\n#include "msgcounter/stub/call.h"\n\n' +
            '#define EXPORT __attribute__((visibility("default")))\n\n' +
            '\n'.join(wrapper(c) for c in calls if 'direct' not in c.row.flags))


def lower_table_c(calls):
    def symbol(c):
        return 'P' + c.name if not c.name.startswith(('QMPI', 'MPIR')) else c.name
    return (HEADING + '/* Weak: another version of the library may lack some. */\n' +
            ''.join(f'extern char {symbol(c)}[] __attribute__((weak));\n' for c in calls) +
            f'\nextern void *const lower_mpi[];\nvoid *const lower_mpi[{len(calls)}] = {{\n' +
            ''.join(f'    {symbol(c)},\n' for c in calls) + '};\n')


def call_limits_h(calls):
    """Calls that cannot be recorded, or whose objects no epoch can hold."""
    rows = [(c.name, c.row.refused or '', int('unable' in c.row.flags)) for c in calls
            if not c.large and (c.row.refused or 'unable' in c.row.flags)]
    rows.sort(key=lambda r: (r[1], r[0]))
    return (HEADING + '#ifndef DBG3_CALL_LIMITS_H\n#define DBG3_CALL_LIMITS_H\n\n'
            '/* X(name, what cannot be recorded or "", no epoch may hold what it makes) */\n'
            '#define CALL_LIMITS(X)' + ''.join(f' \\\n    X("{n}", {c_string(t)}, {u})'
                                             for n, t, u in rows) + '\n\n#endif\n')


def symbols_txt(exports):
    """Name, function or data with its size; what the dynamic linker adds is left out."""
    names = sorted(n for n in exports if re.match(r'(P?MPI|QMPI)', n))
    return ''.join(f'{n} {"data " + str(exports[n][1]) if exports[n][0] in "BDR" else "function"}\n'
                   for n in names)


def write_changed(path, text):
    """Leaves an equal file alone, so that make rebuilds only what changed."""
    if os.path.exists(path):
        with open(path, encoding='ascii') as f:
            if f.read() == text:
                return
    with open(path, 'w', encoding='ascii') as f:
        f.write(text)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument('--cc', required=True)
    ap.add_argument('--lib', required=True)
    ap.add_argument('--out', required=True)
    ap.add_argument('--api', default=os.path.dirname(os.path.abspath(__file__)))
    args = ap.parse_args()
    try:
        calls, exports = read_calls(args.cc, args.lib, args.api)
    except Fault as fault:
        sys.exit(f'gen.py: {fault}')
    os.makedirs(args.out, exist_ok=True)
    for name, text in {
            'call_id.h': call_id_h(calls), 'call_hand.h': call_hand_h(calls),
            'call_table.c': call_table_c(calls), 'wrappers.c': wrappers_c(calls),
            'lower_table.c': lower_table_c(calls), 'call_limits.h': call_limits_h(calls),
            'symbols.txt': symbols_txt(exports)}.items():
        write_changed(os.path.join(args.out, name), text)


if __name__ == '__main__':
    main()
