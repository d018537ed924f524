"""The style sheet of the HTML report: light and dark, from phone to desk, printable."""

STYLE = """
:root{color-scheme:light dark;--bg:#f6f7f9;--card:#fff;--ink:#1b2430;--soft:#5b6775;--line:#dfe4ea;
--track:#eceff3;--accent:#2f5fd0;--ok:#177245;--okbg:#e2f4ea;--no:#9a5b00;--nobg:#fdf0d8;
--bad:#b3261e;--badbg:#fde7e5;--s0:#8a94a1;--s1:#2f6fde;--s2:#d9730d;--s3:#0f8a7e;--s4:#b83280;
--s5:#7048c8;--s6:#8a7a00;--s7:#c43c3c}
@media(prefers-color-scheme:dark){:root{--bg:#12161c;--card:#1a2029;--ink:#e6ebf2;--soft:#9aa7b6;
--line:#2c3541;--track:#28313c;--accent:#8fb3ff;--ok:#6fd39d;--okbg:#153525;--no:#f0bd66;
--nobg:#3b2c10;--bad:#ff9c93;--badbg:#431d1b;--s0:#8d99a8;--s1:#6ea2ff;--s2:#f3a04f;--s3:#3fc2b3;
--s4:#f07fbd;--s5:#ab8cf5;--s6:#d3c04a;--s7:#f28080}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;
font-variant-numeric:tabular-nums}
main,header,footer{max-width:1180px;margin:0 auto;padding:0 20px}
header{padding-top:32px}
h1{font-size:28px;line-height:1.2;margin:0 0 4px;letter-spacing:-.01em}
h2{font-size:20px;margin:36px 0 12px}
h3{font-size:15px;margin:0 0 12px}
h4{font-size:13px;margin:18px 0 6px;color:var(--soft);font-weight:600}
p{margin:0 0 8px}
code,.mono{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:.88em;
overflow-wrap:anywhere}
.soft,footer{color:var(--soft)}
.sub{color:var(--soft);font-size:13px}
.badges{display:flex;flex-wrap:wrap;gap:8px;margin:14px 0 0;padding:0;list-style:none}
.badge{display:inline-block;border-radius:999px;padding:2px 10px;font-size:13px;font-weight:600;
white-space:nowrap;background:var(--track);color:var(--soft)}
.badge.accepted,.badge.passed,.badge.chosen{background:var(--okbg);color:var(--ok)}
.badge.refused{background:var(--nobg);color:var(--no)}
.badge.failed{background:var(--badbg);color:var(--bad)}
.card{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:18px 20px;
margin:0 0 16px;min-width:0}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(340px,100%),1fr));gap:16px;
margin:0 0 16px}
.grid>.card{margin:0}
.scroll{overflow-x:auto;margin:0 -20px;padding:0 20px}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;padding:9px 16px 9px 0;border-top:1px solid var(--line)}
thead th{border-top:0;color:var(--soft);font-size:13px;font-weight:600;white-space:nowrap}
tbody th{font-weight:600}
td b{font-weight:600}
td .sub,th .sub{display:block;font-weight:400}
tr.float{background:color-mix(in srgb,var(--track) 45%,transparent)}
.key{display:inline-block;width:10px;height:10px;border-radius:3px;margin-right:8px}
.legend{display:flex;flex-wrap:wrap;gap:4px 16px;margin:0 0 10px;padding:0;list-style:none;
font-size:13px}
svg{display:block;width:100%;max-width:420px;height:auto;overflow:visible}
svg text{font:12px system-ui,-apple-system,"Segoe UI",Roboto,Arial,sans-serif;fill:var(--soft)}
svg .label{fill:var(--ink)}
svg .figure{fill:var(--ink);font-weight:600}
svg .middle{text-anchor:middle}
svg .end{text-anchor:end}
.track{fill:var(--track)}
.fill{fill:currentColor}
.line{fill:none;stroke:currentColor;stroke-width:2;stroke-linejoin:round}
.grid path.grid,svg .grid{stroke:var(--line);stroke-width:1;fill:none}
.whisker{stroke:var(--ink);stroke-width:1.5;fill:none}
.s0{color:var(--s0)}.s1{color:var(--s1)}.s2{color:var(--s2)}.s3{color:var(--s3)}
.s4{color:var(--s4)}.s5{color:var(--s5)}.s6{color:var(--s6)}.s7{color:var(--s7)}
.line.s0{stroke-dasharray:5 4}.line.s2{stroke-dasharray:9 3}.line.s3{stroke-dasharray:2 3}
.line.s4{stroke-dasharray:12 3 2 3}.line.s5{stroke-dasharray:7 2}.line.s6{stroke-dasharray:3 2}
.key.s0,.key.s1,.key.s2,.key.s3,.key.s4,.key.s5,.key.s6,.key.s7{background:currentColor}
ul.notes{margin:0;padding-left:18px}
ul.notes li{margin:2px 0;overflow-wrap:anywhere}
dl{display:grid;grid-template-columns:max-content 1fr;gap:4px 16px;margin:0}
dt{color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere}
details{border-top:1px solid var(--line);padding:10px 0 0;margin:12px 0 0}
summary{cursor:pointer;font-weight:600;color:var(--accent)}
summary:focus-visible{outline:2px solid var(--accent);outline-offset:2px;border-radius:4px}
details>*:not(summary){margin-top:10px}
.head{display:flex;flex-wrap:wrap;gap:6px 12px;align-items:center;margin:0 0 12px}
.head h3{margin:0;font-size:17px}.head .key{margin:0}
footer{padding-top:8px;padding-bottom:40px;font-size:13px}
@media(max-width:640px){main,header,footer{padding-left:14px;padding-right:14px}
.card{padding:14px}.scroll{margin:0 -14px;padding:0 14px}dl{grid-template-columns:1fr;gap:0}
dd{margin-bottom:6px}
table.stack thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
table.stack tr{display:block;border-top:1px solid var(--line);padding:8px 10px;margin:0 -10px}
table.stack tbody tr:first-child{border-top:0}
table.stack th,table.stack td{display:flex;border:0;padding:3px 0}
table.stack td::before{content:attr(data-title);flex:0 0 110px;color:var(--soft);font-size:13px}
table.stack td.none{display:none}}
@media print{body{background:#fff}.card{break-inside:avoid}details>summary{color:inherit}}
"""
