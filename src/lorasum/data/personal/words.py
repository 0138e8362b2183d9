"""The words beside a number that say what it is. Each name is a part of a pattern (patterns.py)."""


def _words(*words: str) -> str:
    return "|".join(sorted(" ".join(words).split(), key=len, reverse=True))


# -- phone numbers --

PHONES = _words(
    "tel telefon telephone phone mobile cell cellphone whatsapp sms fax landline hotline handphone msisdn handy",
    "mobil mobiltelefon mobilfunk festnetz durchwahl ruf telefoon mobiel tlf téléphone téléphoner tél portable",
    "telefone teléfono telefono telef telf tfno móvil movil celular telemóvel telemovel zap cellulare telefonu",
    "telefonum telefonom telefonszám telefonul telefoni puhelin puhelinnumero kännykkä komórka komórkę komorka mobilu",
    "telepon telp sđt sdt тел телефон телефона телефону мобильный мобильник сотовый мобільний ватсап вотсап τηλ",
    "τηλέφωνο κινητό",
)
PHONES_TOGETHER = _words(  # scripts without spaces, and words written together with what follows
    "电话 手机 手机号 手機 座机 固话 電話 電話番号 携帯 ケータイ 전화 전화번호 휴대폰 핸드폰 फ़ोन फोन मोबाइल",
    "هاتف هاتفي موبايل جوال تليفون تلفون واتساب تلفن موبایل טלפון נייד פלאפון סלולרי โทร มือถือ",
)
PHONES_SHORT = (  # these can be something else, so the number has to follow at once
    r"mob|puh|tlm|telem|fono|fone|моб|сот|κιν|(?:ph|wpp|wsp|(?<!\d )gsm(?!\W{0,3}(?:850|900)))(?!\d)"
    r"|cel(?=[.:#])|(?<=mi )cel|(?<=[mts]eu )cel"
)
CALLS = _words(
    "call ring reach text rufe anrufen erreichbar erreichst rückruf bereikbaar appelle appelez appeler joindre",
    "joignable llama llámame llamame llamar liga ligue ligar chiama chiamami chiamare bel bellen soita dzwoń zadzwoń",
    "zadzwon volej zavolej ara звони позвони звоните позвоните дзвони подзвони дзвоніть",
)
CALLED_ONES = _words("me us him her them mich mir uns moi")
NUMBERS = _words("nummer numéro número numero numer číslo numaram номер")
NUMBERS_TOGETHER = _words("號碼 号码 番号 번호 연락처 नंबर رقم رقمي מספר เบอร์ 致电 拨打")

# -- what is not a phone number --

CURRENCIES = _words(
    "€ eur euro euros £ gbp pound pounds quid $ usd dollar dollars bucks us$ ca$ a$ ¥ jpy yen 円 元 块 rmb cny 원 krw",
    "₹ rs inr rupee rupees r$ real reais brl chf franken kr kr. sek nok dkk zł zl pln kč czk ft huf lei ron лв ₽",
    "руб рублей ₺ tl ₴ грн peso pesos mxn ₪ ฿",
).replace("$", r"\$")
UNITS = _words("% people users views followers leute personen personnes personas million millionen km kg bytes steps")
ORDER = _words(
    r"order invoice ticket booking tracking parcel shipment article item sku serial transaction receipt",
    r"awb imei ean upc reservation barcode bestellung rechnung auftrag sendung buchung aktenzeichen charge batch",
    r"commande facture colis réservation de\ssuivi pedido factura reserva envío de\sseguimiento encomenda",
    r"fatura de\srastreio",
    r"nota\sfiscal ordine fattura prenotazione spedizione bestelling factuur zending beställning bestilling ordre",
    r"faktura zamówienie zamówienia faktury przesyłka objednávka objednávky tilaus sipariş takip\sno заказ заказа",
    r"накладная накладной трек-номер замовлення",
)
ORDER_STEMS = _words(  # of Bestellnr.
    "bestell auftrags rechnungs sendungs artikel chargen buchungs lieferschein serien bestel factuur faktura ordre",
    "beställnings bestillings",
)
ORDER_TOGETHER = _words(
    "订单 订单号 订单编号 单号 訂單 訂單號 訂單編號 單號 注文番号 追跡番号 伝票番号 予約番号 주문 주문번호 송장번호",
    "운송장 예약번호 طلب الطلب ऑर्डर",
)
CASE = _words(  # a phone number may stand behind these, too: one that begins with 0 is taken for it
    "reference ref customer contract policy confirmation account licence license case id pnr vorgang référence dossier",
    "client referencia expediente cliente pratica счет счёт konto compte cuenta conto rekening",
)
CASE_STEMS = _words("kunden vertrags vorgangs kunde kund klant mitglieds referenz")
SPEAKERS = _words("customer client cliente ean")  # of those above, at the beginning of a line
NUMBER_WORDS = _words(
    "number numbers no nos n nr nummer num núm nro numéro número numero numarası номер č id code is was are ist war",
    "lautet es",
)
