"""Chats as WhatsApp exports them, in the forms of many languages."""

import unicodedata

import pytest

from lorasum.data.chats.chat import Chat
from lorasum.data.chats.whatsapp.export import read_whatsapp

LRM, RLM, NNBSP, NBSP = "\u200e", "\u200f", "\u202f", "\u00a0"

HEADERS = {
    "English, United States": f"3/14/24, 9:02{NNBSP}AM - ",
    "English, United Kingdom": "14/03/2024, 09:02 - ",
    "English, India": "14/03/24, 9:02 am - ",
    "English, Canada": "2024-03-14, 9:02 a.m. - ",
    "English, South Africa": "2024/03/14, 09:02 - ",
    "English, iPhone": "[3/14/24, 9:02:11 AM] ",
    "English, iPhone, narrow blank": f"[3/14/24, 9:02:11{NNBSP}AM] ",
    "English, months by name": "14 Mar 2024, 09:02 - ",
    "English, an old iPhone": "3/14/16, 9:02:11 AM: ",
    "English, a colon behind the hour": "14.03.24 09:02: ",
    "English, a colon behind the bracket": "[14/03/24, 09:02:11]: ",
    "Spanish, a. m.": f"14/3/2024, 9:02{NBSP}a. m. - ",
    "Spanish, p.m.": "14/3/2024, 9:02 p.m. - ",
    "Spanish, p. with one letter": "14/3/2024, 9:02 p. - ",
    "Spanish, iPhone": "[14/3/24 9:02:11] ",
    "Spanish, iPhone, p. m.": f"[14/3/24, 9:02:11{NBSP}p.{NBSP}m.] ",
    "Portuguese": "14/03/2024 09:02 - ",
    "Portuguese, months by name": "14 de março de 2024 às 09:02 - ",
    "French": "14/03/2024 à 09:02 - ",
    "French, Canada": "2024-03-14 09 h 02 - ",
    "German": "14.03.24, 09:02 - ",
    "German, um": "14.03.2024 um 09:02 - ",
    "German, vorm.": "14.03.24, 9:02 vorm. - ",
    "Dutch": "14-03-2024 09:02 - ",
    "Italian": "14/03/24, 09:02 - ",
    "Finnish": "14.3.2024 klo 9.02 - ",
    "Danish": "14.03.2024 kl. 09.02 - ",
    "Danish, iPhone": "[14.03.2024 09.02.11] ",
    "Swedish": "2024-03-14 09:02 - ",
    "Swedish, iPhone": "[2024-03-14 09:02:11] ",
    "Polish": "14.03.2024, 09:02 - ",
    "Czech": "14.03.24 9:02 - ",
    "Slovak": "14. 3. 2024, 9:02 - ",
    "Croatian": "14. 03. 2024. 09:02 - ",
    "Hungarian": "2024. 03. 14. 9:02 - ",
    "Hungarian, de.": "2024. 03. 14. de. 9:02 - ",
    "Bulgarian": f"14.03.24{NNBSP}г., 9:02 ч. - ",
    "Russian": "14.03.2024, 09:02 - ",
    "Ukrainian": "14.03.24, 09:02 - ",
    "Greek": f"14/3/24, 9:02{NNBSP}π.μ. - ",
    "Greek, afternoon": "14/3/24, 9:02 μ.μ. - ",
    "Turkish": "14.03.2024 09:02 - ",
    "Turkish, ÖS": "14.03.2024 ÖS 9:02 - ",
    "Hebrew": "14.3.2024, 9:02 - ",
    "Hebrew, iPhone": f'{RLM}[14.3.2024, 9:02:11 אחה"צ] ',
    "Arabic": f"14{RLM}/3{RLM}/2024، 9:02 ص - ",
    "Arabic, iPhone, its own digits": f"{RLM}[١٤{RLM}/٣{RLM}/٢٠٢٤، ٩:٠٢:١١{NBSP}م] ",
    "Persian": f"۲۰۲۴/۳/۱۴،{RLM} ۹:۰۲ - ",
    "Persian, its calendar": "۱۴۰۲/۱۲/۲۴،‏ ۹:۰۲ ق.ظ. - ",
    "Hindi": "14/3/24, 9:02 am - ",
    "Hindi, its own digits": "१४/०३/२४, ९:०२ पूर्वाह्न - ",
    "Bengali": "১৪/৩/২৪, ৯:০২ AM - ",
    "Thai, its calendar": "14/3/2567 09:02 - ",
    "Thai, iPhone": "[14/3/2567 BE, 09:02:11] ",
    "Vietnamese": "09:02, 14/03/2024 - ",
    "Vietnamese, iPhone": "[09:02:11, 14/3/24] ",
    "Vietnamese, SA": "14/3/24, 9:02 SA - ",
    "Indonesian": "14/03/24 09.02 - ",
    "Malay": "14/03/2024, 9:02 PTG - ",
    "Japanese": "2024/03/14 9:02 - ",
    "Japanese, 午前": "2024/03/14 午前9:02 - ",
    "Japanese, years of the emperor": "[3/14/R6, 9:02:11] ",
    "Korean": "2024. 3. 14. 오전 9:02 - ",
    "Korean, two digits": "24. 3. 14. 오후 9:02 - ",
    "Korean, in words": "2024년 3월 14일 오전 9:02 - ",
    "Chinese": "2024/3/14 上午9:02 - ",
    "Chinese, in words": "2024年3月14日 下午9:02 - ",
    "Chinese, iPhone": "[2024/3/14 晚上9:02:11] ",
    "Albanian": "14.3.24, 9:02 e paradites - ",
    "Thai, น.": "14/3/2567 09:02 น. - ",
    "Basque": "24/3/14 (09:02) - ",
    "Hindi, months by name": "14 मार्च 2024, 9:02 am - ",
    "Thai, months by name": "14 มี.ค. 2567 09:02 น. - ",
    "Vietnamese, months by name": "14 thg 3, 2024, 09:02 - ",
    "Pashto, months by name": "14 مارچ 2024, 9:02 غ.م - ",
    "Korean, hours in words": "[24. 3. 14. 9시 2분 11초] ",
    "A weekday behind the time": "09:02 Fri 14 Mar 2024 - ",
    "Assamese": "14-3-2024, পূৰ্বাহ্ন 9.02 - ",
    "Cantonese": "2024/3/14 朝早9:02 - ",
    "Arabic, the Islamic calendar": f"[١٤{RLM}/٩{RLM}/١٤٤٥ هـ، ٩:٠٢:١١ م] ",
    "Chinese, Taiwan's calendar": "[民國113/3/14 上午9:02:11] ",
    "English, Persian calendar": "[12/24/1402 AP, 9:02:11 AM] ",
    "Dutch, 's ochtends": "14-03-2024, 9:02 ’s ochtends - ",
}


@pytest.mark.parametrize("form", HEADERS)
def test_a_chat_is_read_in_the_form_of_each_language(form: str) -> None:
    begin = HEADERS[form]
    text = f"{begin}Ana: hi\nare you there?\n\n{begin}Ben M.: yes: 5/6, why?\r\n{begin}+49 176 1234: see 3 - 4\n"
    chat = read_whatsapp(text)
    assert chat is not None
    assert chat.form == "WhatsApp export"
    assert chat.dialogue == "Ana: hi are you there?\nBen M.: yes: 5/6, why?\n+49 176 1234: see 3 - 4"


@pytest.mark.parametrize("form", HEADERS)
def test_a_notice_without_a_name_is_left_out_in_each_form(form: str) -> None:
    begin = HEADERS[form]
    chat = read_whatsapp(f'{begin}Ana created group "Trip: May"\n{begin}Ana: hi\n{begin}Ben: yes\n{begin}Ana: so?')
    assert chat is not None
    assert chat.dialogue == "Ana: hi\nBen: yes\nAna: so?"
    assert chat.left_out == {"notices": 1}


@pytest.mark.parametrize(
    "notice",
    [
        "You were added",
        "Eve left",
        "Eve changed the group description to: be kind",
        '+12 345 578 created group "x"',
        "Eve wurde hinzugefügt",
        "Eva salió del grupo",
        "アナがグループ「旅行: 5月」を作成しました",
    ],
)
def test_a_notice_is_known_where_the_one_of_encryption_is_missing(notice: str) -> None:
    chat = read_whatsapp(android("Ana: hi", notice, "Ben: yes", "Ana: so?"))
    assert chat is not None
    assert (chat.dialogue, chat.left_out) == ("Ana: hi\nBen: yes\nAna: so?", {"notices": 1})


def test_the_first_notice_is_known_without_its_mark() -> None:
    first = "Messages and calls are end-to-end encrypted. No one outside of this chat can read them."
    assert said(ios(f"Trip: {first}", "Ana: hi", "Ben: is WhatsApp end-to-end encrypted?")) == [
        "Ana: hi",
        "Ben: is WhatsApp end-to-end encrypted?",
    ]


@pytest.mark.parametrize(
    "notice",
    [
        "ข้อความและการโทรจะถูกเข้ารหัสจากต้นทางถึงปลายทาง",
        "Poruke i pozivi sveobuhvatno su šifrirani.",
        "Viestit ja puhelut ovat täysin salattuja.",
        "సందేశాలు మరియు కాల్‌లు ఎండ్-టు-ఎండ్ ఎన్‌క్రిప్ట్ చేయబడ్డాయి.",
        "സന്ദേശങ്ങളും കോളുകളും എൻഡ്-ടു-എൻഡ് എൻക്രിപ്റ്റ് ചെയ്തിരിക്കുന്നു.",
        "Ujumbe na simu zimefumbwa mwisho hadi mwisho.",
    ],
)
def test_the_notice_of_encryption_is_known(notice: str) -> None:
    chat = read_whatsapp(android(notice, "Ana: hi", "kept by nobody", "Ben: ho"))
    assert chat == Chat("Ana: hi\nBen: ho", "WhatsApp export", {"notices": 2})


def test_the_name_of_a_group_is_known_without_marks() -> None:
    first = "Messages and calls are end-to-end encrypted. No one outside of this chat can read them."
    text = ios(f"Trip: {first}", "Trip: Ana created this group", "Ana: hi", "Trip: Eve was added", "Ben: ho")
    assert said(text) == ["Ana: hi", "Ben: ho"]
    assert said(ios(f"Ben: {first}", "Ben: Eve was added?", "Ana: yes")) == ["Ben: Eve was added?", "Ana: yes"]
    assert said(text + "\n" + ios("Trip: who has a tent?"))[-1] == "Trip: who has a tent?"


def test_words_beside_the_time_mean_half_days_where_the_app_says_so() -> None:
    text = "14/3/24, 9:02 zao - Ana: hi\n14/3/24, 9:03 zao - Ben: <Media omitted>\n14/3/24, 9:04 wan - Ana: so?"
    assert said(text) == ["Ana: hi", "Ana: so?"]
    assert read_whatsapp(text.replace("<Media omitted>", "Room 3: no")) is None


def test_a_line_that_begins_differently_continues_the_message() -> None:
    pasted = "[18:02, 3/6/2024] Eve: buy four\nSleep 7 h (22.00 - 05.00), work 1 h: no"
    text = android("Ana: she wrote this:\n" + pasted, "Ben: ok", "Ana: fine")
    first = "Ana: she wrote this: [18:02, 3/6/2024] Eve: buy four Sleep 7 h (22.00 - 05.00), work 1 h: no"
    assert said(text) == [first, "Ben: ok", "Ana: fine"]


def test_lines_above_a_chat_are_kept() -> None:
    text = "WhatsApp Chat with Ana\n\n" + android(
        "Messages are end-to-end encrypted", "Ana: hi", "Ben: <Media omitted>"
    )
    assert said(text) == ["WhatsApp Chat with Ana", "Ana: hi"]


def test_what_whatsapps_web_page_exports_is_read() -> None:
    written = [
        "You: who has a tent?",
        "Ana: <image omitted> this one",
        "Ana: <image omitted>",
        "Ben: offer.pdf (file attached) look at page 3",
        "Ben: image (file attached)",
        "Ben: <video message omitted>",
        "Ben: GIF attached",
        "Ben: Location: 52.5, -13.4 - https://maps.google.com/?q=52.5,-13.4",
        "Ben: <Live location omitted>",
        "Ben: 2 contacts shared",
        "Ben: [Forwarded] it rains",
        "You: Poll: when?\n    - Monday\n    - Tuesday",
        "Ana: This message was deleted by an admin",
        "- Ana added Eve",
    ]
    head = (
        "Messages and calls are end-to-end encrypted. No one outside of this chat, not even WhatsApp, can read them.\n"
    )
    chat = read_whatsapp(head + "\n".join(f"[6/3/24, 9:02:11 AM] {line}" for line in written))
    assert chat is not None
    assert chat.dialogue.split("\n") == [
        "You: who has a tent?",
        "Ana: this one",
        "Ben: look at page 3",
        "Ben: it rains",
        "You: Poll: when? - Monday - Tuesday",
    ]
    assert chat.left_out == {"notices": 2, "media": 9}


def test_two_forms_of_the_hour_may_stand_in_one_file() -> None:
    chat = read_whatsapp("14/3/2024, 9:02 AM - Pia: it leaks\n14/3/2024, 1:40 p. m. - Teo: he comes on Thursday")
    assert chat is not None
    assert chat.dialogue == "Pia: it leaks\nTeo: he comes on Thursday"


@pytest.mark.parametrize(
    "times",
    [
        ["9:02 de la mañana", "1:40 de la tarde", "12:05 de la madrugada", "12:00 del mediodía", "8:15 de la noche"],
        ["9:02 da manhã", "12:05 da madrugada", "12:00 meio-dia", "8:15 da noite"],
        ["de. 9:02", "du. 1:40", "éjjel 12:05", "dél 12:00", "este 8:15"],
        ["9:02 dop.", "12:05 v n.", "12:00 pol.", "8:15 več."],
        ["오전 9:02", "밤 12:05", "정오 12:00", "저녁 8:15"],
        ["9:02 sáng", "12:05 đêm", "12:00 TR", "8:15 tối"],
        ["9.02 pagi", "12.00 tengah hari", "8.15 malam"],
        ["9:02 утра", "12:00 полд.", "8:15 вечера"],
        ["9:02 ص", "1:40 بعد الظهر", "12:05 في المساء", "12:00 ظهرًا"],
        ["上午9:02", "凌晨12:05", "夜晚8:15", "朝早6:10"],
        ["9:02 morgens", "12:00 mittags", "8:15 abends", "11:58 nachts"],
    ],
)
@pytest.mark.parametrize("form", ["14/3/24, {} - ", "[14/3/24, {}] "])
def test_a_day_may_have_more_than_two_parts(form: str, times: list[str]) -> None:
    text = "\n".join(f"{form.format(time)}{'Ana' if number % 2 else 'Ben'}: hi" for number, time in enumerate(times))
    assert said(text) == ["Ana: hi" if number % 2 else "Ben: hi" for number in range(len(times))]


@pytest.mark.parametrize(
    ("time", "plan"),
    [
        ("9:02", "15/3/24, 8:00 noche - Cena: en casa"),
        ("9:02 a. m.", "15/3/24, 20:00 noche - Cena: en casa"),
        ("9:02 a. m.", "15/3/24, 8:00 tren a Vigo - Vuelta: el lunes"),
    ],
)
def test_a_plan_with_words_beside_its_time_stays_in_its_message(time: str, plan: str) -> None:
    text = f"14/3/24, {time} - Ana: mira:\n{plan}\n14/3/24, {time} - Ben: bien\n14/3/24, {time} - Ana: <Media omitted>"
    assert said(text) == [f"Ana: mira: {plan}", "Ben: bien"]


def ios(*lines: str) -> str:
    """Lines of an iPhone's export; `*` at the beginning of one is the mark that attachments have."""
    dated = (f"[03.06.24, 18:01:00] {line}" for line in (line.removeprefix("*") for line in lines))
    return "\n".join(f"{LRM if line[0] == '*' else ''}{one}" for line, one in zip(lines, dated, strict=True))


def android(*lines: str) -> str:
    return "\n".join(f"03/06/2024, 18:01 - {line}" for line in lines)


def said(text: str) -> list[str]:
    chat = read_whatsapp(text)
    assert chat is not None
    return chat.dialogue.split("\n")


@pytest.mark.parametrize(
    "notice",
    [
        "Messages and calls are end-to-end encrypted. Only people in this chat can read them.",
        "Imke hat die Gruppe „Radtour“ erstellt",
        "Jannis wurde hinzugefügt",
        "Missed voice call",
        "Tu código de seguridad con Ana cambió.",
        "あなたがグループを作成しました",
    ],
)
def test_a_mark_after_the_name_is_a_notice_in_every_language(notice: str) -> None:
    chat = read_whatsapp(ios(f"Radtour: {LRM}{notice}", "Imke: um neun", "Jannis: gut"))
    assert chat is not None
    assert chat.dialogue == "Imke: um neun\nJannis: gut"
    assert chat.left_out == {"notices": 1}


@pytest.mark.parametrize(
    "placeholder",
    [
        "This message was deleted",
        "You deleted this message.",
        "You deleted this message as admin",
        "You deleted this message as group admin",
        "Esta mensagem foi eliminada",
        "Acest mesaj a fost şters",
        "Это сообщение удалено",
        "यह मैसेज मिटा दिया गया है",
        "這則訊息已刪除",
        "ఈ సందేశం తొలగించబడింది",
        "Пропущенный аудиозвонок в 10:02",
        "Gemiste spraakoproep om 10:02",
        "Missat röstsamtal kl. 10:02",
        "Llamada perdida a las 3:15 p. m.",
        "This message was deleted by ~Eve Li",
        "This message was deleted by +49 170 555 0199",
        "Missed voice call at 3:15 PM",
        "Verpasster Sprachanruf um 14:02 Uhr",
        "This message was deleted by admin Eve",
        "This message was deleted by an admin",
        "এই মেসেজটি বাদ দেওয়া হয়েছে।",
        unicodedata.normalize("NFD", "এই মেসেজটি বাদ দেওয়া হয়েছে।").replace("\u09af\u09bc", "\u09df"),
        "ನೀವು ಈ ಸಂದೇಶವನ್ನು ಅಳಿಸಿದ್ದೀರಿ",
        "یہ میسج حذف کر دیا گیا ہے۔",
        "To sporočilo ste izbrisali",
        "Propušten video poziv",
        "ਮਿਸ ਹੋਈ ਵੀਡੀਓ ਕਾਲ",
        "Esperando el mensaje. Esto puede tomar tiempo.",
        "live placering delt",
        "共享实时位置",
        "यह मैसेज मिटाया गया था",
        "Diese Nachricht wurde gelöscht.",
        "Se eliminó este mensaje.",
        "Ce message a été supprimé",
        "Mensagem apagada",
        "Questo messaggio è stato eliminato",
        "Dit bericht is verwijderd",
        "Bu mesaj silindi",
        "Данное сообщение удалено",
        "تم حذف هذه الرسالة",
        "הודעה זו נמחקה",
        "このメッセージは削除されました",
        "此消息已删除",
        "Missed voice call",
        "Verpasster Videoanruf",
        "Llamada perdida",
        "Missed video call at 10:02",
        "Waiting for this message. This may take a while.",
        "You received a view once message. For added privacy, you can only open it on your phone.",
        "You received a view once voice message. For added privacy, you can only open it on your phone.",
        "Você apagou essa mensagem",
        "No se puede mostrar este mensaje aquí. Para verlo, abre WhatsApp en tu teléfono.",
        "Silenced voice call, No answer",
        "Missed voice call, Click to call back",
        "Llamada de voz perdida. Toca para devolver la llamada.",
        "null",
    ],
)
def test_what_stands_for_a_message_is_left_out(placeholder: str) -> None:
    chat = read_whatsapp(android("Ana: hi", f"Ben: {placeholder}", "Ana: well?"))
    assert chat is not None
    assert (chat.dialogue, chat.left_out) == ("Ana: hi\nAna: well?", {"notices": 1})


def test_the_length_of_a_call_is_a_notice_on_iphones_only() -> None:
    said = ("Ana: hi", "Ben: Videollamada, 1 h 23 min", "Ana: well?")
    on_iphone = read_whatsapp("\n".join(f"[14.03.24, 09:0{n}:00] {line}" for n, line in enumerate(said)))
    assert on_iphone == Chat("Ana: hi\nAna: well?", "WhatsApp export", {"notices": 1})
    assert read_whatsapp(android(*said)) == Chat("\n".join(said), "WhatsApp export")


@pytest.mark.parametrize(
    "tag",
    [
        "<This message was edited>",
        f"{LRM}<This message was edited>",
        "<Diese Nachricht wurde bearbeitet.>",
        "<Se editó este mensaje.>",
        "<Editaste este mensaje.>",
        "<Mensagem editada>",
        "<Ce message a été modifié>",
        "<Questo messaggio è stato modificato>",
        "<Bu mesaj düzenlendi>",
        "<Сообщение изменено>",
        "<Ta wiadomość była edytowana>",
        f"{RLM}<تم تعديل هذه الرسالة>",
        "<ההודעה נערכה>",
        "<Pesan ini diedit>",
        f"{LRM}<in a language that is not known>",
        "<This message was edited>\n",
    ],
)
def test_the_tag_of_an_edited_message_is_cut_off(tag: str) -> None:
    assert said(android("Ana: bring four", f"Ben: at six\nsharp {tag}")) == ["Ana: bring four", "Ben: at six sharp"]


MEDIA = [
    "<Media omitted>",
    "<Medien ausgeschlossen>",
    "<Multimedia omitido>",
    "<Archivo omitido>",
    "<Médias omis>",
    "<Mídia oculta>",
    "<Ficheiro não revelado>",
    "<Media omessi>",
    "<Media weggelaten>",
    "<Без медиафайлов>",
    "<Медіа пропущено>",
    "<Pominięto multimedia>",
    "<Média vynechány>",
    "<Medya dahil edilmedi>",
    "<Media utelämnat>",
    "<Uten vedlegg>",
    "<Mediefil udeladt>",
    "<Media jätettiin pois>",
    "<Hiányzó médiafájl>",
    "<Conținut media omis>",
    "<Εξαίρεση πολυμέσων>",
    "<המדיה לא נכללה>",
    "<تم استبعاد الوسائط>",
    "<رسانه حذف شد>",
    "<मीडिया के बिना>",
    "<মিডিয়া বাদ দেওয়া হয়েছে>",
    "<Media tidak disertakan>",
    "<Bỏ qua Media>",
    "<สื่อถูกลบ>",
    "<メディアは含まれていません>",
    "<미디어 파일 제외됨>",
    "<省略多媒体文件>",
    "<忽略多媒體檔>",
    "<Mitjans omesos>",
    "<View once voice message omitted>",
    "IMG-20240603-WA0007.jpg (file attached)",
    "IMG-20240603-WA0007.jpg (Datei angehängt)",
    "PTT-20240603-WA0008.opus (archivo adjunto)",
    "STK-20240603-WA0009.webp (in a language that is not known)",
    "the offer 2024.pdf (fichier joint)",
    "Ana Lee.vcf (arquivo anexado)",
    "plan.docx (файл добавлен)",
    f"{LRM}VID-20240603-WA0001.mp4 (bestand bijgevoegd)",
    "image omitted",
    "video utelämnad",
    "η εικόνα παραλείφθηκε",
    "图像已省略",
    "Bild weggelassen",
    "imagen omitida",
    "vidéo absente",
    "sticker omesso",
    "áudio ocultado",
    "görüntü dahil edilmedi",
    "изображение отсутствует",
    "画像は含まれていません",
    "לא ידוע.pdf (קובץ מצורף)",
    "offer-2024.pdf • 3 pages document omitted",
    "Standort: https://maps.google.com/?q=51.5,-0.12",
    "location: https://maps.google.com/?q=51.5,-0.12",
    "live location shared",
    "DOC-20220831-WA0001. (file attached)",
    "report.numbers (file attached)",
    "છબી પડતી મૂકાઈ",
    "físeán ligthe ar lár",
    "<Без фајл>",
    "<Без мултимедия>",
    "plan 7.pdf (plik dołączony)",
    "plan 7.pdf (ไฟล์ที่แนบมา)",
    "Hyde Park (London, United Kingdom): https://foursquare.com/v/4e89af95e5fa82ad4c0aa03b",
]


@pytest.mark.parametrize("placeholder", MEDIA)
def test_a_caption_is_kept_and_what_stands_for_a_picture_is_not(placeholder: str) -> None:
    chat = read_whatsapp(android("Ana: which one?", f"Ana: {placeholder}\nthe grey one is 31", f"Ben: {placeholder}"))
    assert chat is not None
    assert chat.dialogue == "Ana: which one?\nAna: the grey one is 31"
    assert sum(chat.left_out.values()) == 2


@pytest.mark.parametrize(
    ("line", "caption"),
    [
        (f"{LRM}<attached: 00000012-PHOTO-2024-06-03-18-04-00.jpg>", ""),
        (f"{LRM}<Anhang: 00000012-PHOTO-2024-06-03-18-04-00.jpg>", ""),
        (f"{LRM}<pièce jointe : 00000012-AUDIO-2024-06-03-18-04-00.opus>", ""),
        (f"{LRM}<附件：00000012-PHOTO-2024.jpg>", ""),
        (f"the grey one {LRM}<adjunto: 00000012-PHOTO-2024.jpg>", "the grey one"),
        (f"the grey one {LRM}image omitted", "the grey one"),
        (f"the grey one {LRM}of a language that is not known", "the grey one"),
        (f"offer-2024.pdf • {LRM}3 pages {LRM}document omitted", ""),
        (f"offer 2024.pdf {LRM}документ отсутствует", ""),
        (f"<{LRM}image omitted>", ""),
        (f"choke_gpu • {LRM}8 pages {LRM}document omitted", ""),
        (f"lab.ipynb {LRM}document omitted", ""),
        (f"main.rs {LRM}ドキュメントは含まれていません", ""),
        ("2015-08-04-PHOTO-00004762.jpg <\u200eattached>", ""),
        (f"{LRM}Contact card omitted", ""),
        (f"lab.ipynb {LRM}<attached: 00000012-lab.ipynb>", ""),
        (f"12.50 {LRM}image omitted", "12.50"),
        (f"ok.great {LRM}<attached: 00000012-PHOTO-2024.jpg>", "ok.great"),
        (f"www.example.org/tiles.pdf {LRM}document omitted", "www.example.org/tiles.pdf"),
        (f"https://tiles.example.org {LRM}<attached: 00000012-PHOTO-2024.jpg>", "https://tiles.example.org"),
    ],
)
def test_attachments_of_an_iphone_keep_what_was_written_with_them(line: str, caption: str) -> None:
    expected = ["Ana: which one?", f"Ana: {caption}", "Ben: hm"]
    assert said(ios("Ana: which one?", f"*Ana: {line}", "Ben: hm")) == [one for one in expected if one != "Ana: "]


def test_the_name_of_a_file_below_its_placeholder_is_no_caption() -> None:
    assert said(android("Ana: look", "Ana: <Media omitted>\nadder 4 bit.pdf", "Ben: ok")) == ["Ana: look", "Ben: ok"]
    address = "https://tiles.example.org/grey.html"
    assert said(android(f"Ana: IMG-20240314-WA0007.jpg (file attached)\n{address}", "Ben: ok"))[0] == f"Ana: {address}"


def test_a_poll_is_what_somebody_asked() -> None:
    poll = f"*Ana: {LRM}POLL:\nWhere do we eat?\n{LRM}OPTION: Pizza ({LRM}2 votes)\n{LRM}OPTION: Soup ({LRM}0 votes)"
    asked = "Ana: POLL: Where do we eat? OPTION: Pizza (2 votes) OPTION: Soup (0 votes)"
    assert said(ios("Ben: hungry", poll)) == ["Ben: hungry", asked]


def test_an_event_is_what_somebody_planned() -> None:
    event = f"Ana: {LRM}EVENT: Dinner\n{LRM}DATE: Friday at 8\n{LRM}PLACE: at home"
    assert said(ios("Ben: hungry", event)) == ["Ben: hungry", "Ana: EVENT: Dinner DATE: Friday at 8 PLACE: at home"]


def test_marks_in_front_of_words_are_notices_on_an_iphone_alone() -> None:
    urdu = f"{RLM}سلام"
    assert said(android(f"Ana: {urdu}", f"Ben: {LRM}Open this link to join: https://x.org")) == [
        "Ana: سلام",
        "Ben: Open this link to join: https://x.org",
    ]
    assert said(ios(f"Ana: {urdu}", f"Trip: {LRM}Ana left")) == ["Ana: سلام"]
    arabic = f"{RLM}[03.06.24, 18:01:00] Ana: {RLM}لم يتم إدراج شيء"
    assert said(ios("Ana: hi", f"Trip: {RLM}غيّر الاسم", "Ben: ho") + "\n" + arabic) == ["Ana: hi", "Ben: ho"]
    encrypted = f"Trip: {RLM}ההודעות והשיחות מוצפנות"
    assert said(ios(encrypted, "Ana: hi", f"Ben: {RLM}סרטון לא נכלל", "Ben: ho")) == ["Ana: hi", "Ben: ho"]


def test_messages_of_a_contact_without_a_name_are_kept() -> None:
    assert said(android(": good luck", "Ana: thanks", ": <Media omitted>", "Ana:...")) == [
        "good luck",
        "Ana: thanks",
        "Ana: ...",
    ]


def test_no_blank_need_follow_the_name_of_somebody_who_speaks_elsewhere() -> None:
    text = ios(f"Trip: {LRM}Ana created this group", "Ana: hi", "Ana:who comes?", f"Trip:{LRM}Eve left", "Eve:left")
    assert said(text) == ["Ana: hi", "Ana: who comes?"]


def test_marks_and_tildes_around_names_are_taken_off() -> None:
    text = ios(f"\u202a+49{NBSP}176{NBSP}1234\u202c: hi", "~\u202fMia: \u202ahello\u202c", f"{LRM}Otto: hey")
    assert said(text) == ["+49 176 1234: hi", "Mia: hello", "Otto: hey"]


@pytest.mark.parametrize("name", ['Nomsa "N" Dube', "Eva „Evi“ M.", ":eve:", "Ana :)", "Mum ❤️", "Jo (work) 2", "İpek"])
def test_names_may_hold_quotes_and_colons(name: str) -> None:
    assert said(android(f"{name}: hi: you", "Ben: <Media omitted>")) == [f"{name}: hi: you"]


def test_lines_of_long_messages_may_outnumber_the_messages() -> None:
    recipe = "\n".join(f"{step}. stir well" for step in range(40))
    text = android("Messages and calls are end-to-end encrypted.", f"Ana: the recipe\n{recipe}", "Ben: thanks")
    assert said(text)[0].startswith("Ana: the recipe 0. stir well 1. stir well")
    assert said(text.split("\n", 1)[1] + "\n03/06/2024, 18:02 - Ana: enjoy")[-2:] == ["Ben: thanks", "Ana: enjoy"]


@pytest.mark.parametrize(
    "words",
    [
        "the image was omitted",
        "image omitted by mistake, sorry",
        "I attached it (file attached)",
        "see config.yaml (the new one)",
        "who deleted this message?",
        "this message was deleted by whom?",
        "This message was deleted by mistake, here it is again: pay 40 euro",
        "Message deleted as it was wrong",
        "Missed voice call at 3 from your mum, please ring her",
        "das Bild weggelassen hat er",
        "<3",
        "use <b> here",
        "is this end-to-end encrypted?",
        "missed call me back",
        "no answer",
        "a < b and c > d",
        "here: https://example.org/?q=1,2",
        "see <https://example.org/plan.pdf>",
        "write to Eve <mailto:eve@example.org>",
        "null points",
        "the file is plan.pdf",
        "it is attached (see there)",
        "[sic] hi",
        "2 contacts shared it",
        "our location: 3 km away",
        "waiting for this message, will you write it?",
        "voice call, or shall we meet?",
    ],
)
def test_words_like_those_of_the_app_are_kept_where_a_person_writes_them(words: str) -> None:
    assert said(android("Ana: hi", f"Ben: {words}", "Ana: ok")) == ["Ana: hi", f"Ben: {words}", "Ana: ok"]


@pytest.mark.parametrize(
    "text",
    [
        "Ana: hi\nBen: on 12/31/23, 6:05 PM - or so",
        "",
        "x\n" + ios("Ana: hi", "Ben: ho"),
        "[2024-06-03 10:00:01] INFO: started\n[2024-06-03 10:00:02] WARN: disk at 91%\n[2024-06-03 10:00:03] ready\n",
        "[2024-06-03 10:00:01] [main] app.server: listening\n[2024-06-03 10:00:02] [main] app.server: ready\n",
        "2024-06-03 10:00:01,123 - root - INFO - started\n2024-06-03 10:00:02,456 - root - ERROR - failed: disk\n",
        "2024-06-03 10:00:01 - sshd[812]: accepted a key\n2024-06-03 10:00:05 - sshd[812]: closed\n",
        "03.06.2024, 08:10 - Woke up late.\nIt rained.\n04.06.2024, 12:30 - Nothing happened.\n",
        "03.06.2024, 08:10 - Woke up late\n03.06.2024, 12:30 - Saw Ana: a new job!\n03.06.2024, 18:30 - Ran 5 km\n",
        "03.06.2024, 10:00 - Kickoff: budget\nAna: we need more\nBen: no\n03.06.2024, 11:00 - Close: done\nAll left.\n",
        "[2024-03-14 09:00] Wrote 500 words. Mood: good\n[2024-03-15 09:00] Wrote 200 words. Mood: bad\n",
        "3/6/24, 9:00 AM - Dentist\n3/6/24, 1:00 PM - Lunch\n3/7/24, 9:00 AM - Call: Ben\n",
    ],
)
def test_logs_diaries_and_notes_with_dates_are_no_chat(text: str) -> None:
    assert read_whatsapp(text) is None


def test_lines_without_a_name_are_kept_unless_surely_notices() -> None:
    text = android("Ana: hi", "Ben: yes", "the door was open", "Ana: so?")
    assert said(text) == ["Ana: hi", "Ben: yes", "the door was open", "Ana: so?"]
