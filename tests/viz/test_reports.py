import numpy as np

from hrseg.viz.reports import data_uri, whole_page


def test_a_page_escapes_its_title_and_keeps_the_parts_in_order():
    page = whole_page("x", "<a> & b", header="<p>h</p>", body="B", style="i{}", after="<script/>")
    assert page.count("<title>&lt;a&gt; &amp; b · hrseg x</title>") == 1
    assert "<h1>&lt;a&gt; &amp; b</h1><p>h</p></header>\nB\n</main><script/></body></html>" in page
    assert page.index("body") < page.index("i{}</style>") < page.index("<main>")


def test_drawings_are_png_and_photographs_jpeg():
    picture = np.zeros((4, 5, 3), np.uint8)
    assert data_uri(picture).startswith("data:image/png;base64,iVBOR")
    assert data_uri(picture, "JPEG").startswith("data:image/jpeg;base64,/9j/")
